# Other people's libraries: each is looked for, and a missing one is named with what it costs.
#
# phx_dependency(name header library "what is lost without it") makes phx::<name> and sets
# PHX_HAVE_<NAME> to 1 or 0. A library of "-" means that the header is all there is.

find_package(Threads REQUIRED)
set(PHX_MISSING "" CACHE INTERNAL "dependencies that were not found")

function(phx_dependency name header library lost)
    string(TOUPPER ${name} upper)
    find_path(PHX_${upper}_INCLUDE ${header})
    set(found ${PHX_${upper}_INCLUDE})
    if(NOT library STREQUAL "-")
        find_library(PHX_${upper}_LIBRARY NAMES ${library})
        mark_as_advanced(PHX_${upper}_LIBRARY)
        if(NOT PHX_${upper}_LIBRARY)
            set(found FALSE)
        endif()
    endif()
    mark_as_advanced(PHX_${upper}_INCLUDE)
    if(NOT found)
        message(STATUS "${name}: not found, so ${lost}")
        set(PHX_HAVE_${upper} 0 PARENT_SCOPE)
        return()
    endif()
    add_library(phx_${name} INTERFACE)
    add_library(phx::${name} ALIAS phx_${name})
    target_include_directories(phx_${name} SYSTEM INTERFACE ${PHX_${upper}_INCLUDE})
    if(NOT library STREQUAL "-")
        target_link_libraries(phx_${name} INTERFACE ${PHX_${upper}_LIBRARY})
    endif()
    message(STATUS "${name}: found")
    set(PHX_HAVE_${upper} 1 PARENT_SCOPE)
endfunction()

# Linked statically: two assembly routines, declared by sim/, and no C++ runtime.
phx_dependency(boost_context boost/context/detail/fcontext.hpp libboost_context.a
    "the simulator runs its fibers as pthreads")
phx_dependency(xxhash xxhash.h - "runs of the simulator have no trace hash")
phx_dependency(yaml yaml.h yaml "the phx program is not built")
phx_dependency(cjson cjson/cJSON.h cjson "the phx program is not built")
phx_dependency(sodium sodium.h sodium "there is no bootstrap: ranks can't find each other")

if(NOT PHX_TEST_RUNNER MATCHES "^(auto|criterion|mini)$")
    message(FATAL_ERROR "PHX_TEST_RUNNER is \"${PHX_TEST_RUNNER}\"; "
        "it may be auto, criterion or mini")
endif()
if(PHX_TEST_RUNNER STREQUAL "mini" OR PHX_SANITIZE STREQUAL "thread")
    set(PHX_HAVE_CRITERION 0) # Criterion does not start under ThreadSanitizer or valgrind
else()
    phx_dependency(criterion criterion/criterion.h criterion "tests use the mini runner")
    if(PHX_TEST_RUNNER STREQUAL "criterion" AND NOT PHX_HAVE_CRITERION)
        message(FATAL_ERROR "PHX_TEST_RUNNER is criterion, but Criterion was not found")
    endif()
endif()
