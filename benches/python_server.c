// A minimal blob service on the loopback interface, for benches/python.py. It must cost less than every client: a thread
// serves a connection, downloads go from memory to the socket without a copy here, and uploads are dropped by the kernel.
//
//     python_server FILE
//
// It prints its port, and ends when its standard input does. The container says what is in it:
//     /account/nCOUNTsSIZE/…   generated blobs of SIZE bytes. Its listing has COUNT of them, in pages of 5,000.
//     /account/file/…          FILE
//     /account/missing/…       nothing: 404
//     /account/counters        the number of requests, and of the bytes of blobs received and sent, as text
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

enum { HEAD_CAPACITY = 64 << 10, PATTERN = 8 << 20, PAGE = 5000, ENTRY_CAPACITY = 1024 };

static const char DATE[] = "Mon, 30 Nov 2026 12:00:00 GMT";
static int pattern_fd, file_fd;
static uint64_t file_size;
static atomic_ullong requests, bytes_received, bytes_sent;

struct connection {
    int fd;
    size_t used;  // bytes in `head`
    char head[HEAD_CAPACITY];
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static bool send_all(int fd, const char *data, size_t size, int flags) {
    while (size > 0) {
        ssize_t sent = send(fd, data, size, flags | MSG_NOSIGNAL);
        if (sent <= 0) return false;
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

static bool send_range(int fd, int source, uint64_t period, uint64_t first, uint64_t length) {
    while (length > 0) {
        off_t at = (off_t)(first % period);
        uint64_t left = period - (uint64_t)at;
        ssize_t sent = sendfile(fd, source, &at, length < left ? length : left);
        if (sent <= 0) return false;
        first += (uint64_t)sent;
        length -= (uint64_t)sent;
        atomic_fetch_add(&bytes_sent, (unsigned long long)sent);
    }
    return true;
}

// Copies the value of a header, or "" if there is none.
static void header(const char *head, const char *name, char *value, size_t capacity) {
    value[0] = 0;
    const char *found = strcasestr(head, name);
    if (!found) return;
    found += strlen(name);
    found += strspn(found, " ");
    size_t size = strcspn(found, "\r");
    if (size >= capacity) size = capacity - 1;
    memcpy(value, found, size);
    value[size] = 0;
}

// Answers with a body, or with the head of one that the caller sends, if `body` is NULL.
static bool answer(struct connection *c, const char *status, const char *more, uint64_t length, const char *body) {
    char echo[128], text[2048];
    header(c->head, "\r\nx-ms-client-request-id:", echo, sizeof echo);
    int size = snprintf(text, sizeof text,
                        "HTTP/1.1 %s\r\nContent-Length: %llu\r\nServer: Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0\r\n"
                        "x-ms-request-id: 5cdbd4a2-901e-0023-4d3d-b8c4c5000000\r\nx-ms-version: 2025-01-05\r\n"
                        "Date: %s\r\n%s%s%s%s\r\n",
                        status, (unsigned long long)length, DATE, echo[0] ? "x-ms-client-request-id: " : "", echo,
                        echo[0] ? "\r\n" : "", more);
    bool head_only = strncmp(c->head, "HEAD ", 5) == 0;
    if (!send_all(c->fd, text, (size_t)size, head_only || length == 0 ? 0 : MSG_MORE)) return false;
    return head_only || !body || send_all(c->fd, body, length, 0);
}

static bool answer_error(struct connection *c, const char *status, const char *code) {
    char more[256], body[256];
    bool head_only = strncmp(c->head, "HEAD ", 5) == 0;
    snprintf(more, sizeof more, "x-ms-error-code: %s\r\n%s", code, head_only ? "" : "Content-Type: application/xml\r\n");
    int size = snprintf(body, sizeof body,
                        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>%s</Message></Error>",
                        code, code);
    return answer(c, status, more, head_only ? 0 : (uint64_t)size, body);
}

static bool list(struct connection *c, const char *query, uint64_t count, uint64_t size) {
    const char *prefix = strstr(query, "prefix=");
    if (prefix && prefix[7] && prefix[7] != '&' && strncmp(prefix + 7, "sample", 6) != 0) {
        count = 0;
    } else if (strstr(query, "delimiter=/") && count > 0 && !strstr(query, "prefix=sample")) {
        const char *body = "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"c\"><Delimiter>/"
                           "</Delimiter><Blobs><BlobPrefix><Name>sample/</Name></BlobPrefix></Blobs><NextMarker />"
                           "</EnumerationResults>";
        return answer(c, "200 OK", "Content-Type: application/xml\r\n", strlen(body), body);
    }
    uint64_t first = 0, most = PAGE;
    const char *marker = strstr(query, "marker="), *results = strstr(query, "maxresults=");
    if (marker) first = strtoull(marker + 7, NULL, 10);
    if (results) most = strtoull(results + 11, NULL, 10);
    if (most == 0 || most > PAGE) most = PAGE;
    uint64_t last = first + most < count ? first + most : count;
    char *body = malloc((size_t)(last - first + 2) * ENTRY_CAPACITY), *at = body;
    at += sprintf(at, "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"http://127.0.0.1/account/\""
                      " ContainerName=\"n%llus%llu\"><MaxResults>%d</MaxResults><Blobs>",
                  (unsigned long long)count, (unsigned long long)size, PAGE);
    for (uint64_t i = first; i < last; ++i) {
        at += sprintf(at,
                      "<Blob><Name>sample/%08llu</Name><Properties><Creation-Time>%s</Creation-Time><Last-Modified>%s"
                      "</Last-Modified><Etag>0x8DFACADE</Etag><Content-Length>%llu</Content-Length><Content-Type>"
                      "application/octet-stream</Content-Type><Content-Encoding /><Content-Language /><Content-CRC64 />"
                      "<Content-MD5>sQqNsWTgdUEFt6mb5y4/5Q==</Content-MD5><Cache-Control /><Content-Disposition />"
                      "<BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><AccessTierInferred>true"
                      "</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
                      "<ServerEncrypted>true</ServerEncrypted></Properties><OrMetadata /></Blob>",
                      (unsigned long long)i, DATE, DATE, (unsigned long long)size);
    }
    at += sprintf(at, "</Blobs>");
    at += last < count ? sprintf(at, "<NextMarker>%llu</NextMarker>", (unsigned long long)last)
                       : sprintf(at, "<NextMarker />");
    at += sprintf(at, "</EnumerationResults>");
    bool sent = answer(c, "200 OK", "Content-Type: application/xml\r\n", (uint64_t)(at - body), body);
    free(body);
    return sent;
}

static bool download(struct connection *c, bool head_only, int source, uint64_t period, uint64_t size) {
    char range[128], more[1024], content_range[128] = "";
    header(c->head, "\r\nx-ms-range:", range, sizeof range);
    if (!range[0]) header(c->head, "\r\nrange:", range, sizeof range);
    uint64_t first = 0, last = size - 1;
    if (range[0] && !head_only) {
        unsigned long long from = 0, to = size - 1;
        if (sscanf(range, "bytes=-%llu", &to) == 1) {
            from = to < size ? size - to : 0;
            to = size - 1;
        } else {
            sscanf(range, "bytes=%llu-%llu", &from, &to);
        }
        if (from >= size) return answer_error(c, "416 The range is not satisfiable", "InvalidRange");
        first = from;
        last = to < size ? to : size - 1;
        snprintf(content_range, sizeof content_range, "Content-Range: bytes %llu-%llu/%llu\r\n",
                 (unsigned long long)first, (unsigned long long)last, (unsigned long long)size);
    }
    snprintf(more, sizeof more,
             "%sContent-Type: application/octet-stream\r\nLast-Modified: %s\r\nAccept-Ranges: bytes\r\n"
             "ETag: \"0x8DFACADE\"\r\nx-ms-creation-time: %s\r\nx-ms-blob-type: BlockBlob\r\nx-ms-lease-status: unlocked\r\n"
             "x-ms-lease-state: available\r\nx-ms-server-encrypted: true\r\n",
             content_range, DATE, DATE);
    uint64_t length = last - first + 1;
    if (!answer(c, content_range[0] ? "206 Partial Content" : "200 OK", more, length, NULL)) return false;
    return head_only || send_range(c->fd, source, period, first, length);
}

// Drops the body of a request: what is in the buffer after the head, and then what the kernel has.
static bool drop_body(struct connection *c, size_t head_size) {
    char length_text[32], expect[32];
    header(c->head, "\r\ncontent-length:", length_text, sizeof length_text);
    header(c->head, "\r\nexpect:", expect, sizeof expect);
    uint64_t body = strtoull(length_text, NULL, 10), ready = c->used - head_size;
    if (expect[0] && body > 0 && !send_all(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, 0)) return false;
    atomic_fetch_add(&bytes_received, (unsigned long long)body);
    if (ready > body) ready = body;
    body -= ready;
    // The head stays until the answer has been sent; a following request, behind the body, is kept.
    memmove(c->head + head_size, c->head + head_size + ready, c->used - head_size - ready);
    c->used -= ready;
    while (body > 0) {
        ssize_t dropped = recv(c->fd, NULL, body < (1 << 20) ? body : (1 << 20), MSG_TRUNC);
        if (dropped <= 0) return false;
        body -= (uint64_t)dropped;
    }
    return true;
}

static bool serve(struct connection *c) {
    char method[8] = "", path[2048] = "";
    sscanf(c->head, "%7s %2047s", method, path);
    bool gets = strcmp(method, "GET") == 0, head_only = strcmp(method, "HEAD") == 0;
    if (strcmp(path, "/account/counters") == 0) {
        char body[128];
        int size = snprintf(body, sizeof body, "%llu %llu %llu\n", (unsigned long long)requests,
                            (unsigned long long)bytes_received, (unsigned long long)bytes_sent);
        return answer(c, "200 OK", "", (uint64_t)size, body);
    }
    atomic_fetch_add(&requests, 1);
    if (strcmp(method, "PUT") == 0)
        return answer(c, "201 Created", "ETag: \"0x8DFACADE\"\r\nLast-Modified: Mon, 30 Nov 2026 12:00:00 GMT\r\n"
                                        "x-ms-request-server-encrypted: true\r\n", 0, "");
    unsigned long long count = 0, size = 0;
    bool generated = sscanf(path, "/account/n%llus%llu", &count, &size) == 2;
    char *query = strchr(path, '?');
    bool of_container = query && strstr(query, "restype=container");
    if (query && strstr(query, "action=getAccessControl"))
        return answer_error(c, "400 Bad Request", "HierarchicalNamespaceNotEnabled");
    if (of_container && generated && strstr(query, "comp=list")) return list(c, query, count, size);
    if (of_container) return answer(c, "200 OK", "ETag: \"0x8DFACADE\"\r\nLast-Modified: Mon, 30 Nov 2026 12:00:00 GMT\r\n", 0, "");
    if ((gets || head_only) && generated && size > 0 && strstr(path, "/sample/")) return download(c, head_only, pattern_fd, PATTERN, size);
    if ((gets || head_only) && strncmp(path, "/account/file/", 14) == 0 && file_size > 0)
        return download(c, head_only, file_fd, file_size, file_size);
    return answer_error(c, "404 The specified blob does not exist.", "BlobNotFound");
}

static void *serve_connection(void *argument) {
    struct connection *c = argument;
    while (true) {
        char *end;
        c->head[c->used] = 0;
        while (!(end = strstr(c->head, "\r\n\r\n"))) {
            if (c->used + 1 >= HEAD_CAPACITY) goto done;
            ssize_t got = recv(c->fd, c->head + c->used, HEAD_CAPACITY - 1 - c->used, 0);
            if (got <= 0) goto done;
            c->used += (size_t)got;
            c->head[c->used] = 0;
        }
        size_t head_size = (size_t)(end - c->head) + 4;
        // Headers end here, also for the functions that search in them.
        end[2] = 0;
        if (!drop_body(c, head_size) || !serve(c)) goto done;
        memmove(c->head, c->head + head_size, c->used - head_size);
        c->used -= head_size;
    }
done:
    close(c->fd);
    free(c);
    return NULL;
}

static void *end_with_parent(void *argument) {
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
    exit(0);
    return argument;
}

int main(int count, char **arguments) {
    signal(SIGPIPE, SIG_IGN);
    pattern_fd = memfd_create("pattern", 0);
    if (pattern_fd < 0 || ftruncate(pattern_fd, PATTERN)) fail("memfd");
    unsigned char *pattern = mmap(NULL, PATTERN, PROT_READ | PROT_WRITE, MAP_SHARED, pattern_fd, 0);
    if (pattern == MAP_FAILED) fail("mmap");
    for (size_t i = 0; i < PATTERN; ++i) pattern[i] = (unsigned char)(i * 31 >> 3);
    if (count > 1) {
        file_fd = open(arguments[1], O_RDONLY);
        struct stat stat;
        if (file_fd < 0 || fstat(file_fd, &stat)) fail(arguments[1]);
        file_size = (uint64_t)stat.st_size;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        fail("socket");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    pthread_t thread;
    pthread_create(&thread, NULL, end_with_parent, NULL);
    while (true) {
        int fd = accept(listener, NULL, NULL), on = 1;
        if (fd < 0) fail("accept");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = malloc(sizeof *c);
        c->fd = fd;
        c->used = 0;
        if (pthread_create(&thread, NULL, serve_connection, c)) fail("thread");
        pthread_detach(thread);
    }
}
