/* Writes a blob and reads it back: blob URL. Each way of using an installed aztorch builds it: scripts/gates/install.sh */
#include <aztorch.h>
#include <stdio.h>
#include <string.h>

#ifdef SECOND_RUST_LIBRARY
int second_library_runs(void);
#endif

static int fail(azt_error *error) {
    fprintf(stderr, "%s: %s\n", azt_status_name(azt_error_status(error)), azt_error_message(error));
    azt_error_free(error);
    return 1;
}

int main(int argc, char **argv) {
    static char data[300000], back[sizeof data];
    azt_error *error = NULL;
    azt_blob *blob = NULL;
    size_t count = 0;
    char version[64];

    if (argc != 2) return 2;
    snprintf(version, sizeof version, "%d.%d.%d", AZT_VERSION_MAJOR, AZT_VERSION_MINOR, AZT_VERSION_PATCH);
    if (strcmp(version, azt_version()) != 0) {
        fprintf(stderr, "the header is %s, the library %s\n", version, azt_version());
        return 1;
    }
    for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * i % 251);

    if (azt_blob_open(NULL, argv[1], AZT_BLOB_MODE_WRITE, &blob, &error)) return fail(error);
    if (azt_blob_write(blob, data, sizeof data, &error) || azt_blob_close(blob, &error)) return fail(error);
    azt_blob_free(blob);
    if (azt_blob_open(NULL, argv[1], AZT_BLOB_MODE_READ, &blob, &error)) return fail(error);
    if (azt_blob_read(blob, back, sizeof back, &count, &error)) return fail(error);
    azt_blob_free(blob);
    if (count != sizeof data || memcmp(data, back, count) != 0) {
        fprintf(stderr, "%zu bytes came back, and not those that were written\n", count);
        return 1;
    }
#ifdef SECOND_RUST_LIBRARY
    if (!second_library_runs()) return 1;
#endif
    printf("aztorch %s wrote and read %zu bytes\n", azt_version(), count);
    return 0;
}
