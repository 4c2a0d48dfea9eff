/* A management library with two cards, for tests. The environment of the test decides
   what goes wrong: NVML_FAULT is read at each start. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct {
	char old[16];
	unsigned int domain, bus, device, id, subsystem;
	char bus_id[32];
} pci_t;

static int fault(const char *name) {
	const char *f = getenv("NVML_FAULT");
	return f && strcmp(f, name) == 0;
}

int nvmlInit_v2(void) {
	if (fault("hang")) {
		char byte;
		int fd = atoi(getenv("NVML_PIPE"));
		if (read(fd, &byte, 1) < 0)
			return 999;
	}
	return fault("driver") ? 9 : 0;
}
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : code == 15 ? "GPU is lost" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned int n) { snprintf(text, n, "550.54.14"); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = fault("many") ? 65 : 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **card) { *card = (void *)(unsigned long)(i + 1); return 0; }
int nvmlDeviceGetName(void *card, char *text, unsigned int n) {
	snprintf(text, n, "%s", fault("nameless") ? "" : card == (void *)1 ? "NVIDIA GeForce RTX 4090" : "NVIDIA GB10");
	return 0;
}
int nvmlDeviceGetMemoryInfo(void *card, memory_t *m) {
	if (fault("lost"))
		return 15;
	if (card == (void *)2)
		return 3;
	m->total = 25757220864ULL;
	m->free = fault("more") ? m->total + 1 : 24146608128ULL;
	return 0;
}
int nvmlDeviceGetPciInfo_v3(void *card, pci_t *p) {
	memset(p, 0, sizeof *p);
	snprintf(p->bus_id, sizeof p->bus_id, "0000000%lu:01:00.0", (unsigned long)card - 1);
	return 0;
}
