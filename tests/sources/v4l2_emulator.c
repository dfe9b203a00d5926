/* A webcam without hardware: preloaded into a process, it answers for /dev/video0 as a UVC driver does.
 *
 * Below it runs the real code, OpenCV's Video4Linux backend included. The node must be a link to /dev/null.
 * CAMERA_JPEG is the picture it gives; CAMERA_LOG takes one line for each request that changes something;
 * CAMERA_FRAMES is after how many frames it is unplugged; CAMERA_BUSY makes the stream refuse to start.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1920 * 1080 * 2)
#define MOST 8

static int camera[1024], queued[MOST], head, waiting, frames;
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

static int open_any(const char *name, const char *path, int flags, mode_t mode) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    int node = is_node(path), fd = real(node ? "/dev/null" : path, flags, mode);
    if (fd >= 0 && fd < 1024) camera[fd] = node;
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
    if (fd < 0 || fd >= 1024 || !camera[fd]) return real(at, size, kind, flags, fd, offset);
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
    if (!waiting) return EAGAIN;
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
    case VIDIOC_STREAMON: note("on\n", 0, 0); return getenv("CAMERA_BUSY") ? EBUSY : 0;
    case VIDIOC_STREAMOFF: head = waiting = 0; note("off\n", 0, 0); return 0;
    default: return ENOTTY;
    }
}

int ioctl(int fd, unsigned long request, ...) {
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (fd < 0 || fd >= 1024 || !camera[fd]) return real(fd, request, argument);
    int failed = answer(request & 0xffffffffUL, argument);
    errno = failed;
    return failed ? -1 : 0;
}
