/* A webcam without hardware: preloaded into a process, it answers for /dev/video0 as a UVC driver does.
 *
 * Below it runs the real code, OpenCV's Video4Linux backend included. The node must be a link to /dev/null. Whoever
 * takes it away has unplugged the camera: what was open is lost for good, also when there is a node again.
 * CAMERA_JPEG is the picture it gives, which may be replaced meanwhile; while there is a file of the name in CAMERA_STALL
 * no frame comes; CAMERA_LOG takes one line for each request that changes something; CAMERA_FRAMES is after how many
 * frames it gives no more; CAMERA_BUSY makes the stream refuse to start.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1920 * 1080 * 2)
#define MOST 8

static int camera[1024], queued[MOST], head, waiting, frames, streaming;
static struct stat plugged; /* the node that was opened last */
static char node[4096];
static int lost[1024];
static unsigned char *memory[MOST];
static unsigned width = 640, height = 480, format = V4L2_PIX_FMT_YUYV, rate = 30, count;

static void note(const char *text, unsigned one, unsigned two) {
    const char *path = getenv("CAMERA_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        fprintf(file, text, one, two);
        fclose(file);
    }
}

static int is_node(const char *path) {
    size_t length = path ? strlen(path) : 0;
    return length >= 11 && !strcmp(path + length - 11, "/dev/video0");
}

/* Whether a descriptor is one of the camera. */
static int is_camera(int fd) { return fd >= 0 && fd < 1024 && camera[fd]; }

/* Whether the node is another than the one that was opened last, or none. */
static int has_changed(void) {
    struct stat now;
    return lstat(node, &now) || now.st_ino != plugged.st_ino || now.st_ctim.tv_sec != plugged.st_ctim.tv_sec ||
           now.st_ctim.tv_nsec != plugged.st_ctim.tv_nsec;
}

/* Whether the camera of a descriptor was unplugged. */
static int is_gone(int fd) {
    if (!lost[fd]) lost[fd] = has_changed();
    return lost[fd];
}

static int is_stalled(void) {
    const char *path = getenv("CAMERA_STALL");
    return path && !access(path, F_OK);
}

static int open_any(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    if (!is_node(path)) {
        int other = real(path, flags, mode);
        if (other >= 0 && other < 1024) camera[other] = 0;
        return other;
    }
    snprintf(node, sizeof node, "%s", path);
    if (has_changed()) { /* another camera, as new: whatever is still open is of the one before */
        for (int fd = 0; fd < 1024; fd++) lost[fd] = 1;
        if (lstat(node, &plugged)) {
            errno = ENOENT;
            return -1;
        }
        head = waiting = frames = streaming = 0;
        width = 640, height = 480, format = V4L2_PIX_FMT_YUYV, rate = 30;
    }
    int fd = real("/dev/null", flags, mode);
    if (fd >= 0 && fd < 1024) camera[fd] = 1, lost[fd] = 0;
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return open_any("open", path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return open_any("open64", path, flags, mode);
}

int close(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < 1024) camera[fd] = 0;
    return real(fd);
}

static void *map_any(const char *name, void *at, size_t size, int kind, int flags, int fd, off_t offset) {
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, name);
    if (!is_camera(fd)) return real(at, size, kind, flags, fd, offset);
    return memory[offset / SIZE] = real(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *mmap(void *at, size_t size, int kind, int flags, int fd, off_t offset) {
    return map_any("mmap", at, size, kind, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int kind, int flags, int fd, off_t offset) {
    return map_any("mmap64", at, size, kind, flags, fd, offset);
}

static int negotiate(struct v4l2_format *asked, int set) {
    struct v4l2_pix_format *pix = &asked->fmt.pix;
    if (asked->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return EINVAL;
    if (set) { /* as cameras do: MJPG or YUYV, and the nearest of two sizes */
        format = pix->pixelformat == V4L2_PIX_FMT_MJPEG ? V4L2_PIX_FMT_MJPEG : V4L2_PIX_FMT_YUYV;
        width = pix->width > 960 ? 1280 : 640;
        height = width == 1280 ? 720 : 480;
    }
    pix->width = width, pix->height = height, pix->pixelformat = format, pix->field = V4L2_FIELD_NONE;
    pix->bytesperline = format == V4L2_PIX_FMT_YUYV ? width * 2 : 0, pix->sizeimage = SIZE;
    return 0;
}

static int take(struct v4l2_buffer *buffer) {
    const char *most = getenv("CAMERA_FRAMES"), *picture = getenv("CAMERA_JPEG");
    struct timespec period = {0, 1000000000L / rate};
    if (!streaming) return EINVAL;
    if (!waiting || is_stalled()) return EAGAIN;
    if (most && frames >= atoi(most)) return ENODEV;
    nanosleep(&period, NULL);
    FILE *file = fopen(picture, "rb");
    if (!file) return EIO;
    buffer->index = queued[head++ % MOST], waiting--;
    buffer->bytesused = fread(memory[buffer->index], 1, SIZE, file);
    buffer->length = SIZE, buffer->sequence = frames++, buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    fclose(file);
    return 0;
}

static int answer(unsigned long request, void *argument) {
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *said = argument;
        memset(said, 0, sizeof *said);
        strcpy((char *)said->driver, "uvcvideo"), strcpy((char *)said->card, "Emulated Webcam");
        said->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        said->capabilities = said->device_caps | V4L2_CAP_META_CAPTURE | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_S_INPUT: return 0;
    case VIDIOC_ENUMINPUT: {
        struct v4l2_input *input = argument;
        if (input->index) return EINVAL;
        input->type = V4L2_INPUT_TYPE_CAMERA;
        return 0;
    }
    case VIDIOC_G_FMT: case VIDIOC_TRY_FMT: return negotiate(argument, 0);
    case VIDIOC_S_FMT: {
        int failed = negotiate(argument, 1);
        char text[64];
        snprintf(text, sizeof text, "format %.4s %%ux%%u\n", (char *)&format);
        note(text, width, height);
        return failed;
    }
    case VIDIOC_G_PARM: case VIDIOC_S_PARM: {
        struct v4l2_fract *time = &((struct v4l2_streamparm *)argument)->parm.capture.timeperframe;
        if (request == VIDIOC_S_PARM && time->numerator) rate = time->denominator / time->numerator;
        if (request == VIDIOC_S_PARM) note("rate %u\n", rate, 0);
        time->numerator = 1, time->denominator = rate;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *asked = argument;
        asked->count = asked->count > MOST ? MOST : asked->count;
        count = asked->count, head = waiting = 0;
        note("buffers %u\n", count, 0);
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        if (buffer->index >= count) return EINVAL;
        buffer->length = SIZE, buffer->m.offset = buffer->index * SIZE;
        return 0;
    }
    case VIDIOC_QBUF: queued[(head + waiting++) % MOST] = ((struct v4l2_buffer *)argument)->index; return 0;
    case VIDIOC_DQBUF: return take(argument);
    case VIDIOC_STREAMON: note("on\n", 0, 0); streaming = !getenv("CAMERA_BUSY"); return streaming ? 0 : EBUSY;
    case VIDIOC_STREAMOFF: head = waiting = streaming = 0; note("off\n", 0, 0); return 0;
    default: return ENOTTY;
    }
}

int ioctl(int fd, unsigned long request, ...) {
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (!is_camera(fd)) return real(fd, request, argument);
    int failed = is_gone(fd) ? ENODEV : answer(request & 0xffffffffUL, argument);
    errno = failed;
    return failed ? -1 : 0;
}

/* What poll says of the camera: as drivers do, an error where it does not stream or is gone. */
static short events_of(int fd) {
    if (is_gone(fd)) return POLLERR | POLLHUP;
    if (!streaming) return POLLERR;
    return is_stalled() ? 0 : POLLIN;
}

static short wait_for(int fd, long timeout_ms) {
    struct timespec slice = {0, 10000000L};
    for (long waited_ms = 0;; waited_ms += 10) {
        short events = events_of(fd);
        if (events || (timeout_ms >= 0 && waited_ms >= timeout_ms)) return events;
        nanosleep(&slice, NULL);
    }
}

int poll(struct pollfd *set, nfds_t number, int timeout) {
    int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
    if (number != 1 || !is_camera(set->fd)) return real(set, number, timeout);
    set->revents = wait_for(set->fd, timeout);
    return set->revents != 0;
}

int select(int number, fd_set *reading, fd_set *writing, fd_set *failing, struct timeval *timeout) {
    int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *) = dlsym(RTLD_NEXT, "select");
    if (!is_camera(number - 1) || !reading || !FD_ISSET(number - 1, reading))
        return real(number, reading, writing, failing, timeout);
    int ready = wait_for(number - 1, timeout ? timeout->tv_sec * 1000 + timeout->tv_usec / 1000 : -1) != 0;
    if (!ready) FD_ZERO(reading);
    return ready;
}
