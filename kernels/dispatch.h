// kernels/dispatch.h: tokens out to the ranks of their experts.

#ifndef PHX_KERNELS_DISPATCH_H
#define PHX_KERNELS_DISPATCH_H

#include "kernels/dispatch_receive.h"
#include "kernels/dispatch_send.h"

#endif
