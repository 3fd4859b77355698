/* Copyright: (c) 2026, Sophia AI
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Two GPUs to NVIDIA's own nvidia-ctk and nvidia-container-runtime, on a machine that has none: as much of libnvidia-ml.so.1 as
 * these ask (NVML API reference; names and structures as in go-nvml's bindings). Built by test_runtime_double.py.
 */
#include <stdio.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6 };

struct pci { char legacy[16]; unsigned int domain, bus, device, id, subsystem; char bus_id[32]; };

static const char *uuids[] = {
    "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2"};
static const unsigned int buses[] = {0x07, 0x0f};
static char devices[2];

static int number(void *device) { return (int)((char *)device - devices); }

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int error) { (void)error; return "an error of the double"; }
int nvmlSystemGetDriverVersion(char *to, unsigned int size) { strncpy(to, "550.54.15", size); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion(int *to) { *to = 12040; return SUCCESS; }
int nvmlSystemGetCudaDriverVersion_v2(int *to) { *to = 12040; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned int *to) { *to = 2; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **to)
{
    if (index > 1) return INVALID;
    *to = devices + index;
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **to)
{
    for (int each = 0; each < 2; each++)
        if (!strcmp(uuid, uuids[each])) { *to = devices + each; return SUCCESS; }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(void *device, char *to, unsigned int size) { strncpy(to, uuids[number(device)], size); return SUCCESS; }
int nvmlDeviceGetIndex(void *device, unsigned int *to) { *to = number(device); return SUCCESS; }
int nvmlDeviceGetMinorNumber(void *device, unsigned int *to) { *to = number(device); return SUCCESS; }
int nvmlDeviceGetName(void *device, char *to, unsigned int size) { (void)device; strncpy(to, "NVIDIA A100-SXM4-40GB", size); return SUCCESS; }
int nvmlDeviceGetMigMode(void *device, unsigned int *now, unsigned int *next) { (void)device, (void)now, (void)next; return UNSUPPORTED; }
int nvmlDeviceIsMigDeviceHandle(void *device, unsigned int *to) { (void)device; *to = 0; return SUCCESS; }
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *to) { (void)device; *to = 0; return SUCCESS; }

int nvmlDeviceGetPciInfo_v3(void *device, struct pci *to)
{
    memset(to, 0, sizeof *to);
    to->bus = buses[number(device)];
    snprintf(to->legacy, sizeof to->legacy, "0000:%02X:00.0", to->bus);
    snprintf(to->bus_id, sizeof to->bus_id, "00000000:%02X:00.0", to->bus);
    return SUCCESS;
}
