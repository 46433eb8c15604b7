# libphalanx, static and shared: what programs that use the engine link.

foreach(kind STATIC SHARED)
    string(TOLOWER phalanx_${kind} target)
    add_library(${target} ${kind}
        $<TARGET_OBJECTS:phx_engine> $<TARGET_OBJECTS:phx_kernels>)
    set_target_properties(${target} PROPERTIES OUTPUT_NAME phalanx LINKER_LANGUAGE C
        VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
    target_link_libraries(${target} PRIVATE Threads::Threads m)
endforeach()
set_property(TARGET phalanx_static PROPERTY VERSION)
set_property(TARGET phalanx_static PROPERTY SOVERSION)

include(GNUInstallDirs)
install(TARGETS phalanx_static phalanx_shared
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
# Headers keep their directories, because they include each other by them.
foreach(directory engine kernels)
    file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${directory}/*.h)
    list(FILTER headers EXCLUDE REGEX "transport_ops\\.h$")
    install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/phalanx/${directory})
endforeach()
configure_file(${PROJECT_SOURCE_DIR}/cmake/phalanx.pc.in ${PROJECT_BINARY_DIR}/phalanx.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/phalanx.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
