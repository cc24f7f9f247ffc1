/* An ordinary program: it prints its argument, a variable and a file. It knows nothing of MarbleRun. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *key = getenv("HELLO_KEY");
    FILE *file = fopen("/etc/hello/key", "rb");
    unsigned char bytes[64];
    size_t length = file ? fread(bytes, 1, sizeof bytes, file) : 0;

    printf("%s: %s\n", argv[0], argc > 1 ? argv[1] : "(no argument)");
    printf("variable HELLO_KEY: %zu hexadecimal digits\n", key ? strlen(key) : 0);
    printf("file /etc/hello/key: %zu bytes\n", length);
    if (file)
        fclose(file);
    return key && length ? 0 : 1;
}
