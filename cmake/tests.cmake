# phx_test(NAME name SOURCES file... [LIBS target...] [LABELS label...] [TIMEOUT seconds]
#          [ARGS argument...])
#   Builds bin/test_<name> with the runner of this build and registers it with ctest as <name>.
#   In sanitizer builds it runs under tests/run-sanitized, which fails on any line of their logs.
#
# phx_bench(NAME name SOURCES file... [LIBS target...])
#   Builds bin/bench_<name>; ctest does not run it.

function(phx_test)
    cmake_parse_arguments(PARSE_ARGV 0 t "" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS;ARGS")
    if(NOT t_NAME OR NOT t_SOURCES OR t_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "phx_test: NAME and SOURCES are needed; not understood: "
            "\"${t_UNPARSED_ARGUMENTS}\"")
    endif()
    string(REGEX REPLACE "^test_" "" name ${t_NAME})
    set(target test_${name})
    add_executable(${target} ${t_SOURCES})
    target_compile_definitions(${target} PRIVATE PHX_TEST_SUITE=${name})
    target_link_libraries(${target} PRIVATE ${t_LIBS} phx_test_runner phx_warnings phx_instrument)
    if(NOT t_TIMEOUT)
        set(t_TIMEOUT 300)
    endif()
    if(NOT t_LABELS)
        set(t_LABELS unit)
    endif()
    phx_add_checked(${name} $<TARGET_FILE:${target}> ${t_ARGS})
    set_tests_properties(${name} PROPERTIES LABELS "${t_LABELS}" TIMEOUT ${t_TIMEOUT})
    foreach(source ${t_SOURCES})
        cmake_path(ABSOLUTE_PATH source)
        set_property(GLOBAL APPEND PROPERTY PHX_TEST_SOURCES ${source})
    endforeach()
endfunction()

# Registers a command as a test, under the sanitizer wrapper where there is one.
function(phx_add_checked name)
    set(wrapper "")
    if(PHX_SANITIZE_KIND)
        set(wrapper ${PROJECT_SOURCE_DIR}/tests/run-sanitized ${PHX_SANITIZE_KIND}
            ${PROJECT_BINARY_DIR}/sanitizer-logs/${name} --)
    endif()
    add_test(NAME ${name} COMMAND ${wrapper} ${ARGN} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
endfunction()

function(phx_bench)
    cmake_parse_arguments(PARSE_ARGV 0 b "" "NAME" "SOURCES;LIBS")
    if(NOT b_NAME OR NOT b_SOURCES OR b_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "phx_bench: NAME and SOURCES are needed; not understood: "
            "\"${b_UNPARSED_ARGUMENTS}\"")
    endif()
    string(REGEX REPLACE "^bench_" "" name ${b_NAME})
    add_executable(bench_${name} ${b_SOURCES})
    target_link_libraries(bench_${name} PRIVATE ${b_LIBS} phx_warnings phx_instrument)
endfunction()
