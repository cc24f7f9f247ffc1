/* An ordinary program with a large environment: it counts what it was started with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

int main(int argc, char **argv) {
    size_t argument_bytes = 0, variable_bytes = 0;
    const char *table = getenv("ROUTING_TABLE");

    for (int i = 1; i < argc; i++)
        argument_bytes += strlen(argv[i]);
    for (char **entry = environ; *entry; entry++)
        variable_bytes += strlen(*entry) + 1;
    printf("%d arguments of %zu bytes, first %s, last %s\n", argc - 1, argument_bytes, argv[1], argv[argc - 1]);
    printf("environment of %s64 KiB, ROUTING_TABLE of %zu bytes\n", variable_bytes > 65536 ? "more than " : "at most ",
           table ? strlen(table) : 0);
    return table ? 0 : 1;
}
