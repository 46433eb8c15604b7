# phx_planted(TARGET): the same sources, definitions and libraries once more as TARGET_planted,
# with the mistakes of engine/bug.h compiled in. Call it when TARGET is complete. For tests: nothing
# of it is installed. Only in builds whose tests run quickly: not under sanitizers, valgrind, CUDA.

set(PHX_PLANTED ON)
if(PHX_SANITIZE_KIND OR PHX_CUDA)
    set(PHX_PLANTED OFF)
endif()

function(phx_planted target)
    if(NOT PHX_PLANTED)
        return()
    endif()
    get_target_property(sources ${target} SOURCES)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE")
        add_executable(${target}_planted ${sources})
    else()
        add_library(${target}_planted STATIC ${sources})
    endif()
    get_target_property(libraries ${target} LINK_LIBRARIES)
    list(TRANSFORM libraries APPEND "_planted"
        REGEX "^phx_(engine|kernels|sim|scenario|explore|live|hw)$")
    target_link_libraries(${target}_planted PUBLIC ${libraries})
    get_target_property(definitions ${target} COMPILE_DEFINITIONS)
    if(definitions)
        target_compile_definitions(${target}_planted PRIVATE ${definitions})
    endif()
    target_compile_definitions(${target}_planted PUBLIC PHX_PLANTED_BUGS=1)
endfunction()
