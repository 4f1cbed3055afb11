/* /opt/neti/bin/neti: starts the bundle's Python, whatever the caller's shell says to loaders.
 *
 * Linked statically, so LD_PRELOAD and its like have no say in it; and it drops them, so they have
 * none in Python either. They are meant for programs of the host's own C library.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PYTHON HOME "/bin/python3"

extern char **environ;

static const char *const dropped[] = {
    "LD_",            /* ld.so(8): LD_PRELOAD, LD_LIBRARY_PATH, LD_AUDIT and others */
    "GLIBC_TUNABLES", /* of another version of the C library */
    "GCONV_PATH",     /* modules of another C library */
    "LOCPATH",
    "MALLOC_",
    "PYTHON", /* python3 -I does not read them; its children might */
};

static int is_dropped(const char *entry)
{
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        if (strncmp(entry, dropped[i], strlen(dropped[i])) == 0)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    char **kept = environ;
    for (char **entry = environ; *entry != NULL; entry++)
        if (!is_dropped(*entry))
            *kept++ = *entry;
    *kept = NULL;

    char **words = calloc((size_t)argc + 7, sizeof *words);
    if (words == NULL)
        return 127;
    size_t n = 0;
    words[n++] = PYTHON;
    words[n++] = "-I";
    words[n++] = "-X"; /* the host's locale may be one of which the bundle has no codec */
    words[n++] = "utf8";
    words[n++] = "-m";
    words[n++] = "neti";
    for (int i = 1; i < argc; i++)
        words[n++] = argv[i];
    execv(PYTHON, words);
    perror("neti: " PYTHON " cannot be started");
    return 127;
}
