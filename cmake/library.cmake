# libphalanx, static and shared: what programs that use the engine link.

# The shared library exports what the public headers declare, and nothing else.
set(public_headers ${PROJECT_SOURCE_DIR}/engine/phalanx.h ${PROJECT_SOURCE_DIR}/engine/error.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${public_headers})
set(exported "")
foreach(header ${public_headers})
    file(READ ${header} text)
    string(REGEX MATCHALL "\n[a-z][^;(){}\n]*[ *]phx_[a-z0-9_]+\\(" declarations "${text}")
    list(FILTER declarations EXCLUDE REGEX "^\nstatic ")
    foreach(declaration ${declarations})
        string(REGEX REPLACE ".*[ *](phx_[a-z0-9_]+)\\($" "\\1" name "${declaration}")
        string(APPEND exported "    ${name};\n")
    endforeach()
endforeach()
if(NOT exported MATCHES "phx_group_create;")
    message(FATAL_ERROR "found no phx_group_create in ${public_headers}; exports:\n${exported}")
endif()
set(PHX_EXPORTS ${PROJECT_BINARY_DIR}/phalanx.map)
file(CONFIGURE OUTPUT ${PHX_EXPORTS} CONTENT "{\nglobal:\n${exported}local:\n    *;\n};\n")

foreach(kind STATIC SHARED)
    string(TOLOWER phalanx_${kind} target)
    add_library(${target} ${kind}
        $<TARGET_OBJECTS:phx_engine> $<TARGET_OBJECTS:phx_kernels>)
    set_target_properties(${target} PROPERTIES OUTPUT_NAME phalanx LINKER_LANGUAGE C)
    target_link_libraries(${target} PRIVATE Threads::Threads m)
endforeach()
set_target_properties(phalanx_shared PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS ${PHX_EXPORTS})
target_link_options(phalanx_shared PRIVATE LINKER:--version-script=${PHX_EXPORTS})
if(NOT PHX_SANITIZE) # whose runtime the program brings
    target_link_options(phalanx_shared PRIVATE LINKER:--no-undefined)
endif()

include(GNUInstallDirs)
install(TARGETS phalanx_static phalanx_shared
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
# Headers keep their directories, because they include each other by them.
foreach(directory engine kernels)
    file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${directory}/*.h)
    install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/phalanx/${directory})
endforeach()
file(RELATIVE_PATH PHX_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(${PROJECT_SOURCE_DIR}/cmake/phalanx.pc.in ${PROJECT_BINARY_DIR}/phalanx.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/phalanx.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
