// limit does the least that a server of events can: it encodes an event once, and gives
// it to the kernel with one send(2) for each subscriber. It has topics, because a send
// needs to know to whom, but no history, no ids to resume from, and it waits for whoever
// is slow. What it reaches is what one system call per event and subscriber can reach.
//
//	limit THREADS
//
// It says where it listens. A GET whose path ends in digits subscribes to the topic of
// that number, and a POST publishes its body to it. A publish is answered before anybody
// has got it.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TOPICS = 1000000, DESCRIPTORS = 1 << 20, QUEUE = 1024, REQUEST = 1 << 21 };

static void *need(void *memory)
{
	if (!memory) {
		perror("limit");
		exit(1);
	}
	return memory;
}

// send_all gives b to the kernel, and waits where the socket is full. A connection that
// has broken is found by its reader.
static void send_all(int fd, const char *b, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, b, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent >= 0) {
			b += sent;
			n -= sent;
		} else if (errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};
			poll(&p, 1, 1000);
		} else if (errno != EINTR) {
			return;
		}
	}
}

// A frame is an event as it is sent. The last thread that has sent it frees it.
struct frame {
	atomic_int threads;
	size_t n;
	char text[];
};

struct order {
	enum { ADD, REMOVE, FAN } kind;
	int topic, fd;
	struct frame *frame;
};

struct topic {
	int *fds, n, room;
};

// A thread owns some of each topic's subscribers. The first one is the main thread, which
// carries out its orders at once.
static struct thread {
	struct topic *topics;
	pthread_mutex_t mu;
	pthread_cond_t change;
	struct order queue[QUEUE];
	unsigned long put, taken;
} *threads;

static int thread_count;
static int position[DESCRIPTORS]; // of a subscriber in its topic's fds

static void carry_out(struct thread *t, const struct order *o)
{
	struct topic *of = &t->topics[o->topic];
	switch (o->kind) {
	case ADD:
		if (of->n == of->room) {
			of->room = of->room ? 2 * of->room : 8;
			of->fds = need(realloc(of->fds, of->room * sizeof *of->fds));
		}
		position[o->fd] = of->n;
		of->fds[of->n++] = o->fd;
		break;
	case REMOVE:
		of->fds[position[o->fd]] = of->fds[--of->n];
		position[of->fds[of->n]] = position[o->fd];
		close(o->fd);
		break;
	case FAN:
		for (int i = 0; i < of->n; i++)
			send_all(of->fds[i], o->frame->text, o->frame->n);
		if (atomic_fetch_sub(&o->frame->threads, 1) == 1)
			free(o->frame);
	}
}

static void *run(void *arg)
{
	struct thread *t = arg;
	for (;;) {
		pthread_mutex_lock(&t->mu);
		while (t->put == t->taken)
			pthread_cond_wait(&t->change, &t->mu);
		struct order o = t->queue[t->taken++ % QUEUE];
		pthread_cond_signal(&t->change);
		pthread_mutex_unlock(&t->mu);
		carry_out(t, &o);
	}
	return NULL;
}

static void give(struct thread *t, struct order o)
{
	if (t == threads) {
		carry_out(t, &o);
		return;
	}
	pthread_mutex_lock(&t->mu);
	while (t->put - t->taken == QUEUE)
		pthread_cond_wait(&t->change, &t->mu);
	t->queue[t->put++ % QUEUE] = o;
	pthread_cond_signal(&t->change);
	pthread_mutex_unlock(&t->mu);
}

static void publish(int topic, const char *data, size_t n)
{
	static unsigned long long id;
	struct frame *f = need(malloc(sizeof *f + n + 64));
	f->threads = thread_count;
	f->n = sprintf(f->text, "id: %llu\ndata: ", ++id);
	memcpy(f->text + f->n, data, n);
	memcpy(f->text + f->n + n, "\n\n", 2);
	f->n += n + 2;
	// The others begin while the main thread, which is the last, does its share.
	for (int i = thread_count; i-- > 0;)
		give(&threads[i], (struct order){.kind = FAN, .topic = topic, .frame = f});
}

// A connection has sent a part of a request, or is a subscriber's.
static struct connection {
	char *part;
	size_t n;
	int topic, thread; // -1: it is no subscriber's
} connections[DESCRIPTORS];

static void drop(int poll, int fd)
{
	struct connection *c = &connections[fd];
	free(c->part);
	c->part = NULL;
	if (c->thread < 0) {
		close(fd);
		return;
	}
	epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL); // whoever owns it closes it
	give(&threads[c->thread], (struct order){.kind = REMOVE, .topic = c->topic, .fd = fd});
}

static int topic_of(const char *path, const char *end)
{
	const char *p = end;
	int n = 0;
	while (p > path && p[-1] >= '0' && p[-1] <= '9' && end - p < 6)
		p--;
	for (; p < end; p++)
		n = 10 * n + *p - '0';
	return n;
}

// request answers one, which is complete.
static void request(int fd, const char *b, const char *body, size_t n)
{
	static const char stream[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n";
	static const char taken[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	static int next;
	struct connection *c = &connections[fd];
	const char *path = strchr(b, ' ') + 1; // the head's end is behind it, and has none
	int topic = topic_of(path, path + strcspn(path, " \r"));
	if (*b == 'P') {
		send_all(fd, taken, sizeof taken - 1);
		publish(topic, body, n);
		return;
	}
	send_all(fd, stream, sizeof stream - 1);
	c->topic = topic;
	c->thread = next++ % thread_count;
	give(&threads[c->thread], (struct order){.kind = ADD, .topic = topic, .fd = fd});
}

static void readable(int poll, int fd)
{
	static char b[REQUEST + 1];
	struct connection *c = &connections[fd];
	if (c->n > 0)
		memcpy(b, c->part, c->n);
	ssize_t n = read(fd, b + c->n, REQUEST - c->n);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(poll, fd);
		return;
	}
	n += c->n;
	c->n = 0;
	b[n] = 0;
	char *end = strstr(b, "\r\n\r\n");
	if (end && strchr(b, ' ') < end && c->thread < 0) {
		const char *length = strcasestr(b, "\r\nContent-Length:");
		ssize_t body = length && length < end ? atol(length + 17) : 0;
		if (end + 4 + body <= b + n) {
			request(fd, b, end + 4, body);
			return;
		}
	}
	if (c->thread >= 0)
		return; // a subscriber has no more to say
	c->part = need(realloc(c->part, n));
	memcpy(c->part, b, n);
	c->n = n;
}

static int listen_anywhere(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (void *)&a, sizeof a) || listen(fd, 1 << 16) || getsockname(fd, (void *)&a, &size)) {
		perror("limit: listen");
		exit(1);
	}
	printf("Open       http://127.0.0.1:%d/\n", ntohs(a.sin_port));
	fflush(stdout);
	return fd;
}

static void watch(int poll, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
	epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e);
}

static void accept_all(int poll, int listener)
{
	int fd, one = 1;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (fd >= DESCRIPTORS) {
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		connections[fd] = (struct connection){.thread = -1};
		watch(poll, fd);
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	struct epoll_event events[256];
	thread_count = argc > 1 ? atoi(argv[1]) : 1;
	if (thread_count < 1) {
		fprintf(stderr, "usage: limit THREADS\n");
		return 2;
	}
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	threads = need(calloc(thread_count, sizeof *threads));
	for (int i = 0; i < thread_count; i++) {
		pthread_t id;
		threads[i].topics = need(calloc(TOPICS, sizeof *threads[i].topics));
		pthread_mutex_init(&threads[i].mu, NULL);
		pthread_cond_init(&threads[i].change, NULL);
		if (i > 0 && pthread_create(&id, NULL, run, &threads[i])) {
			fprintf(stderr, "limit: no thread\n");
			return 1;
		}
	}
	int poll = epoll_create1(EPOLL_CLOEXEC), listener = listen_anywhere();
	watch(poll, listener);
	for (;;) {
		int n = epoll_wait(poll, events, 256, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(poll, listener);
			else
				readable(poll, events[i].data.fd);
		}
	}
}
