/* The C peer of the benchmark: SSL_read and SSL_write in a loop, on blocking sockets, 16 KiB at a time.
 *
 *     libssl server CERTIFICATE CONGESTION GROUP SUITE
 *     libssl client CA CONGESTION GROUP SUITE PORT KIND SIZE COUNT RESUMED
 *
 * The server prints its port, and serves one connection at a time. The client prints the seconds that it took, and the
 * seconds of its own processor time. The protocol is that of workloads.py.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <time.h>
#include <unistd.h>

enum { DOWNLOAD = 1, UPLOAD = 2, ECHO = 3, HELLO = 4, HEADER = 13, PIECE = 16384 };

static unsigned char piece[PIECE];
static const char *congestion;

static void die(const char *what) {
    fprintf(stderr, "libssl: %s failed\n", what);
    exit(1);
}

static int tcp_socket(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (*congestion) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, strlen(congestion));
    return fd;
}

static int send_bytes(SSL *ssl, uint64_t count) {
    while (count) {
        int n = SSL_write(ssl, piece, count < PIECE ? (int)count : PIECE);
        if (n <= 0) return 0;
        count -= n;
    }
    return 1;
}

static int receive_bytes(SSL *ssl, unsigned char *into, uint64_t count) {
    static unsigned char buffer[PIECE];
    while (count) {
        int n = SSL_read(ssl, into ? into : buffer, count < PIECE ? (int)count : PIECE);
        if (n <= 0) return 0;
        if (into) into += n;
        count -= n;
    }
    return 1;
}

static uint64_t number(const unsigned char *bytes, int length) {
    uint64_t value = 0;
    while (length--) value = value << 8 | *bytes++;
    return value;
}

static int answer(SSL *ssl) {
    unsigned char header[HEADER];
    if (!receive_bytes(ssl, header, HEADER)) return 0;
    int kind = header[0];
    uint64_t size = number(header + 1, 4), count = number(header + 5, 8);
    if (kind == UPLOAD) return receive_bytes(ssl, NULL, size * count) && send_bytes(ssl, 1);
    for (uint64_t i = 0; i < count; i++) {
        if (kind == ECHO && !receive_bytes(ssl, NULL, size)) return 0;
        if (!send_bytes(ssl, size)) return 0;
    }
    return 1;
}

static SSL_CTX *new_context(const SSL_METHOD *method, const char *group, const char *suite) {
    SSL_CTX *context = SSL_CTX_new(method);
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    if (SSL_CTX_set1_groups_list(context, group) != 1) die("setting the group");
    if (SSL_CTX_set_ciphersuites(context, suite) != 1) die("setting the cipher suite");
    return context;
}

static void serve(SSL_CTX *context, const char *certificate) {
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1) die("reading the certificate");
    if (SSL_CTX_use_PrivateKey_file(context, certificate, SSL_FILETYPE_PEM) != 1) die("reading the key");
    int listener = tcp_socket();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 128)) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL), on = 1;
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        SSL *ssl = SSL_new(context);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1)
            while (answer(ssl)) {}
        SSL_free(ssl);
        close(fd);
    }
}

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static SSL *connected(SSL_CTX *context, int port, SSL_SESSION *session) {
    int fd = tcp_socket();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons(port);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, "localhost");
    SSL_set1_host(ssl, "localhost");
    if (session && SSL_set_session(ssl, session) != 1) die("SSL_set_session");
    if (SSL_connect(ssl) != 1) die("SSL_connect");
    return ssl;
}

static void request(SSL *ssl, int kind, uint64_t size, uint64_t count) {
    unsigned char header[HEADER] = {kind};
    for (int i = 0; i < 4; i++) header[1 + i] = size >> (24 - 8 * i);
    for (int i = 0; i < 8; i++) header[5 + i] = count >> (56 - 8 * i);
    if (SSL_write(ssl, header, HEADER) != HEADER) die("SSL_write");
}

static void finish(SSL *ssl) {
    int fd = SSL_get_fd(ssl);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
}

/* One connection for one answer; the session that came with it. */
static SSL_SESSION *hello(SSL_CTX *context, int port, uint64_t size, SSL_SESSION *session) {
    SSL *ssl = connected(context, port, session);
    request(ssl, HELLO, size, 1);
    if (!receive_bytes(ssl, NULL, size)) die("SSL_read");
    if (SSL_session_reused(ssl) != (session != NULL)) die("resuming, or not resuming,");
    SSL_SESSION *fresh = SSL_get1_session(ssl);
    finish(ssl);
    SSL_SESSION_free(session);
    return fresh;
}

static int exchange(SSL *ssl, int kind, uint64_t size, uint64_t count) {
    request(ssl, kind, size, count);
    if (kind == DOWNLOAD) return receive_bytes(ssl, NULL, size * count);
    for (uint64_t i = 0; i < count; i++) {
        if (!send_bytes(ssl, size)) return 0;
        if (kind == ECHO && !receive_bytes(ssl, NULL, size)) return 0;
    }
    return kind == ECHO || receive_bytes(ssl, NULL, 1);
}

static void measure(SSL_CTX *context, int port, int kind, uint64_t size, uint64_t count, int resumed) {
    SSL *ssl = kind == HELLO ? NULL : connected(context, port, NULL);
    SSL_SESSION *session = resumed ? hello(context, port, size, NULL) : NULL;
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    if (kind == HELLO) {
        for (uint64_t i = 0; i < count; i++) {
            session = hello(context, port, size, session);
            if (!resumed) {
                SSL_SESSION_free(session);
                session = NULL;
            }
        }
    } else if (!exchange(ssl, kind, size, count)) {
        die("the transfer");
    }
    printf("%.9f %.9f\n", now(CLOCK_MONOTONIC) - start, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    if (ssl) finish(ssl);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the process that started us is killed when the run is over */
#endif
    if (argc < 6) die("the command line");
    congestion = argv[3];
    if (!strcmp(argv[1], "server")) serve(new_context(TLS_server_method(), argv[4], argv[5]), argv[2]);
    if (argc != 11) die("the command line");
    SSL_CTX *context = new_context(TLS_client_method(), argv[4], argv[5]);
    if (SSL_CTX_load_verify_locations(context, argv[2], NULL) != 1) die("reading the CA");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    measure(context, atoi(argv[6]), atoi(argv[7]), strtoull(argv[8], NULL, 10), strtoull(argv[9], NULL, 10), atoi(argv[10]));
    return 0;
}
