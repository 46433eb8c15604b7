# Flags that decide results, warnings and sanitizers.
#
# Results are bit-identical everywhere, so contraction is off for every file of every target; a
# fused step is written phx_fma. Regions and messages are bytes that are written as one type and
# read (summed, copied, sent) as another, so no compiler may reason from types.

# Nobody replaces a function of the library by one of his own, so calls may be inlined in it.
add_compile_options(
    "$<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off;-fno-strict-aliasing>"
    "$<$<COMPILE_LANGUAGE:C,CXX>:-fno-semantic-interposition>")

add_library(phx_warnings INTERFACE)
target_compile_options(phx_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow>
    $<$<AND:$<BOOL:${PHX_WERROR}>,$<COMPILE_LANGUAGE:C,CXX>>:-Werror>)

# The simulator is a dozen files that call each other for each event, so its objects carry what gcc
# needs to optimise them as one (-ffat-lto-objects: beside the code). Only programs where that pays
# are linked so: phx_link_whole(). Everything else is linked as usual, which takes less time.
set(PHX_WHOLE_COMPILE "")
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT PHX_SANITIZE)
    include(CheckIPOSupported)
    check_ipo_supported(RESULT whole OUTPUT why LANGUAGES C)
    if(whole)
        set(PHX_WHOLE_COMPILE -flto -ffat-lto-objects)
        add_link_options($<IF:$<BOOL:$<TARGET_PROPERTY:PHX_WHOLE>>,-flto=auto,-fno-lto>)
    else()
        message(STATUS "no link-time optimisation: ${why}")
    endif()
endif()
function(phx_link_whole target)
    set_target_properties(${target} PROPERTIES PHX_WHOLE ON)
endfunction()

# In ThreadSanitizer builds the runtime is linked everywhere, but only what links phx_instrument is
# instrumented.
add_library(phx_instrument INTERFACE)

if(PHX_SANITIZE STREQUAL "address")
    set(flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
    add_compile_options(${flags})
    add_link_options(${flags})
    add_compile_definitions(PHX_ASAN=1)
    set(PHX_SANITIZE_KIND asan)
elseif(PHX_SANITIZE STREQUAL "thread")
    target_compile_options(phx_instrument INTERFACE -fsanitize=thread)
    add_compile_options(-fno-omit-frame-pointer)
    add_link_options(-fsanitize=thread)
    add_compile_definitions(PHX_TSAN=1)
    set(PHX_SANITIZE_KIND tsan)
elseif(PHX_SANITIZE STREQUAL "")
    set(PHX_SANITIZE_KIND "${PHX_TEST_WRAPPER}")
else()
    message(FATAL_ERROR "PHX_SANITIZE is \"${PHX_SANITIZE}\"; it may be empty, address or thread")
endif()
if(PHX_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang" OR NOT PHX_SANITIZE STREQUAL "address")
        message(FATAL_ERROR "PHX_FUZZ needs clang and PHX_SANITIZE=address: preset fuzz")
    endif()
    # Everything reports what it reached; the targets of tests/fuzz link the fuzzer itself.
    add_compile_options(-fsanitize=fuzzer-no-link)
    add_link_options(-fsanitize=fuzzer-no-link)
endif()
if(NOT PHX_SANITIZE_KIND MATCHES "^(|asan|tsan|valgrind)$")
    message(FATAL_ERROR "PHX_TEST_WRAPPER is \"${PHX_TEST_WRAPPER}\"; it may be empty or valgrind")
endif()
