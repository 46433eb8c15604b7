// hw/cuda_driver.c: the driver's calls, asked of the runtime by name, so that a program built with
// CUDA starts on a machine without a driver too.

#include "hw/cuda_internal.h"

struct symbol {
    const char *name;
    unsigned version;
    size_t at;
};
#define SYMBOL(name, version, member)                                                              \
    {                                                                                              \
        name, version, offsetof(struct phx_cuda_driver, member)                                    \
    }

int phx_cuda_driver_load(struct phx_cuda_driver *driver, struct phx_message *message)
{
    static const struct symbol symbols[] = {
        SYMBOL("cuGetErrorString", 6000, error_string),
        SYMBOL("cuDeviceGet", 2000, device_get),
        SYMBOL("cuDeviceGetAttribute", 2000, device_attribute),
        SYMBOL("cuMemGetAllocationGranularity", 10020, granularity),
        SYMBOL("cuMemCreate", 10020, create),
        SYMBOL("cuMemRelease", 10020, release),
        SYMBOL("cuMemAddressReserve", 10020, reserve),
        SYMBOL("cuMemAddressFree", 10020, unreserve),
        SYMBOL("cuMemMap", 10020, map),
        SYMBOL("cuMemUnmap", 10020, unmap),
        SYMBOL("cuMemSetAccess", 10020, set_access),
        SYMBOL("cuMemExportToShareableHandle", 10020, export_handle),
        SYMBOL("cuMemImportFromShareableHandle", 10020, import_handle),
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        enum cudaDriverEntryPointQueryResult found;
        void **to = (void **)(void *)((char *)driver + symbols[i].at);
        cudaError_t error = cudaGetDriverEntryPointByVersion(
            symbols[i].name, to, symbols[i].version, cudaEnableDefault, &found);
        if (error != cudaSuccess)
            return phx_cuda_fail(message, error, symbols[i].name);
        if (found != cudaDriverEntryPointSuccess)
            return phx_fail(message, PHX_ERR_UNSUPPORTED, "this driver has no %s",
                            symbols[i].name);
    }
    return 0;
}

int phx_cuda_driver_fail(const struct phx_cuda_driver *driver, struct phx_message *message,
                         CUresult result, const char *call)
{
    const char *text = NULL;
    if (driver->error_string(result, &text) != CUDA_SUCCESS || text == NULL)
        text = "unknown error";
    return phx_fail(message,
                    result == CUDA_ERROR_OUT_OF_MEMORY ? PHX_ERR_NO_MEMORY : PHX_ERR_DEVICE_LOST,
                    "%s: %s", call, text);
}
