/* /opt/neti/bin/neti: starts the bundle's Python, whatever the caller's shell says to loaders.
 *
 * Linked statically, so LD_PRELOAD and its like have no say in it; and it drops them, so they have
 * none in Python either, nor in Pythons that Neti starts. They are meant for programs of the host's
 * own libraries.
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
    "PYTHON",         /* python3 -I does not read them; its children might */
    "OPENSSL_CONF",   /* may name modules of another OpenSSL */
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "SSLKEYLOGFILE", /* the SDK would write there what decrypts its calls */
    "XTABLES_",      /* modules of another iptables, which libnftables would load */
    "IPTABLES_LIB_DIR",
    "IP6TABLES_LIB_DIR",
    "LANG", /* and LANGUAGE: the host's locale may be one of which the bundle has no codec */
    "LC_",
    "CRYPTOGRAPHY_OPENSSL_NO_LEGACY",
};

static char *const said[] = {
    "LC_ALL=C.UTF-8", /* built into the C library */
    /* Its module is the host's, or is not there; Neti asks for nothing that is in it. */
    "CRYPTOGRAPHY_OPENSSL_NO_LEGACY=1",
};
#define SAID (sizeof said / sizeof *said)

/* Where nobody says it. An empty one would mean the working directory. */
static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static int is_dropped(const char *entry)
{
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        if (strncmp(entry, dropped[i], strlen(dropped[i])) == 0)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **kept = calloc(count + SAID + 2, sizeof *kept);
    char **words = calloc((size_t)argc + 7, sizeof *words);
    if (kept == NULL || words == NULL)
        return 127;

    size_t at = 0;
    int has_path = 0;
    for (char **entry = environ; *entry != NULL; entry++) {
        int is_path = strncmp(*entry, "PATH=", 5) == 0;
        if (is_dropped(*entry) || (is_path && (*entry)[5] == '\0'))
            continue;
        has_path |= is_path;
        kept[at++] = *entry;
    }
    if (!has_path)
        kept[at++] = path;
    memcpy(kept + at, said, sizeof said);

    size_t n = 0;
    words[n++] = PYTHON;
    words[n++] = "-I";
    words[n++] = "-X";
    words[n++] = "utf8";
    words[n++] = "-m";
    words[n++] = "neti";
    for (int i = 1; i < argc; i++)
        words[n++] = argv[i];
    execve(PYTHON, words, kept);
    perror("neti: " PYTHON " cannot be started");
    return 127;
}
