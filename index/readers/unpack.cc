// gzip, zstd and xz behind one stream; several members or frames in a row count as one input, as their tools write them.
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <vector>

#include "index/readers/byte_source.h"

namespace lectern::index {
namespace {

constexpr size_t kPackedBytes = 128 << 10;
constexpr int kMaxZstdWindowLog = 27;                      // 128 MiB, zstd's own default; more needs --long to pack
constexpr uint64_t kXzMemory = uint64_t{128} << 20;        // what xz -9 needs (65 MiB), with room

// What the unpackers share: packed bytes in, and where they are.
class PackedInput {
 public:
  explicit PackedInput(std::unique_ptr<RawStream> stream) : stream_(std::move(stream)), bytes_(kPackedBytes) {}
  absl::Status Fill() {
    if (begin_ != end_ || at_end_) return absl::OkStatus();
    ASSIGN_OR_RETURN(const size_t got, stream_->Read(bytes_.data(), bytes_.size()));
    position_ += static_cast<int64_t>(got);
    begin_ = 0;
    end_ = got;
    at_end_ = got == 0;
    return absl::OkStatus();
  }
  const char* data() const { return bytes_.data() + begin_; }
  size_t size() const { return end_ - begin_; }
  void Take(size_t n) { begin_ += n; }
  bool at_end() const { return at_end_ && begin_ == end_; }
  int64_t position() const { return position_ - static_cast<int64_t>(size()); }

 private:
  std::unique_ptr<RawStream> stream_;
  std::vector<char> bytes_;
  size_t begin_ = 0, end_ = 0;
  int64_t position_ = 0;
  bool at_end_ = false;
};

absl::Status Damaged(const char* kind, const PackedInput& in, std::string_view why) {
  return DataLoss(kind, " data is damaged at packed byte ", in.position(), ": ", why);
}
absl::Status CutOff(const char* kind, const PackedInput& in) {
  return DataLoss(kind, " data ends early, at packed byte ", in.position());
}

class GzipStream : public RawStream {
 public:
  explicit GzipStream(std::unique_ptr<RawStream> packed) : in_(std::move(packed)) { ready_ = inflateInit2(&z_, 15 + 16) == Z_OK; }
  ~GzipStream() override {
    if (ready_) inflateEnd(&z_);
  }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    if (!ready_) return ResourceExhausted("gzip: no memory");
    while (true) {
      RETURN_IF_ERROR(in_.Fill());
      if (in_.at_end()) {
        if (member_open_) return CutOff("gzip", in_);
        return size_t{0};
      }
      if (!member_open_ && members_ > 0) {
        if (inflateReset(&z_) != Z_OK) return Damaged("gzip", in_, "cannot begin another member");
      }
      member_open_ = true;
      z_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in_.data()));
      z_.avail_in = static_cast<uInt>(in_.size());
      z_.next_out = reinterpret_cast<Bytef*>(buffer);
      z_.avail_out = static_cast<uInt>(size);
      const int result = inflate(&z_, Z_NO_FLUSH);
      in_.Take(in_.size() - z_.avail_in);
      if (result == Z_STREAM_END) member_open_ = false, ++members_;
      else if (result != Z_OK && result != Z_BUF_ERROR) return Damaged("gzip", in_, z_.msg != nullptr ? z_.msg : "unknown");
      if (const size_t made = size - z_.avail_out; made > 0) return made;
    }
  }

 private:
  PackedInput in_;
  z_stream z_{};
  bool ready_ = false, member_open_ = false;
  int64_t members_ = 0;
};

class ZstdStream : public RawStream {
 public:
  explicit ZstdStream(std::unique_ptr<RawStream> packed) : in_(std::move(packed)), context_(ZSTD_createDCtx()) {
    ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }
  ~ZstdStream() override { ZSTD_freeDCtx(context_); }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    while (true) {
      RETURN_IF_ERROR(in_.Fill());
      ZSTD_inBuffer in{in_.data(), in_.size(), 0};
      ZSTD_outBuffer out{buffer, size, 0};
      const size_t hint = ZSTD_decompressStream(context_, &out, &in);
      const bool at_end = in_.at_end();
      in_.Take(in.pos);
      if (ZSTD_isError(hint)) return Damaged("zstd", in_, ZSTD_getErrorName(hint));
      if (in.pos > 0 || out.pos > 0) frame_open_ = hint != 0;
      if (out.pos > 0) return out.pos;
      if (at_end) {
        if (frame_open_) return CutOff("zstd", in_);
        return size_t{0};
      }
    }
  }

 private:
  PackedInput in_;
  ZSTD_DCtx* context_;
  bool frame_open_ = false;
};

class XzStream : public RawStream {
 public:
  explicit XzStream(std::unique_ptr<RawStream> packed) : in_(std::move(packed)) {
    ready_ = lzma_stream_decoder(&z_, kXzMemory, LZMA_CONCATENATED) == LZMA_OK;
  }
  ~XzStream() override { lzma_end(&z_); }
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    if (!ready_) return ResourceExhausted("xz: no memory");
    while (!done_) {
      RETURN_IF_ERROR(in_.Fill());
      z_.next_in = reinterpret_cast<const uint8_t*>(in_.data());
      z_.avail_in = in_.size();
      z_.next_out = reinterpret_cast<uint8_t*>(buffer);
      z_.avail_out = size;
      const bool at_end = in_.at_end();
      const lzma_ret result = lzma_code(&z_, at_end ? LZMA_FINISH : LZMA_RUN);
      in_.Take(in_.size() - z_.avail_in);
      if (result == LZMA_STREAM_END) done_ = true;
      else if (result == LZMA_MEMLIMIT_ERROR) return ResourceExhausted("xz data needs more than ", kXzMemory, " bytes to unpack");
      else if (result == LZMA_BUF_ERROR && at_end) return CutOff("xz", in_);
      else if (result != LZMA_OK && result != LZMA_BUF_ERROR) return Damaged("xz", in_, internal::Concat("liblzma error ", static_cast<int>(result)));
      if (const size_t made = size - z_.avail_out; made > 0) return made;
      if (at_end && !done_) return CutOff("xz", in_);
    }
    return size_t{0};
  }

 private:
  PackedInput in_;
  lzma_stream z_ = LZMA_STREAM_INIT;
  bool ready_ = false, done_ = false;
};

// Gives back the bytes that were read to tell the kind.
class Prefixed : public RawStream {
 public:
  Prefixed(std::string prefix, std::unique_ptr<RawStream> rest) : prefix_(std::move(prefix)), rest_(std::move(rest)) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    if (at_ == prefix_.size()) return rest_->Read(buffer, size);
    const size_t take = std::min(size, prefix_.size() - at_);
    std::copy_n(prefix_.data() + at_, take, buffer);
    at_ += take;
    return take;
  }
  bool Seek(int64_t to) override {
    if (!rest_->Seek(to)) return false;
    at_ = prefix_.size();
    return true;
  }

 private:
  std::string prefix_;
  std::unique_ptr<RawStream> rest_;
  size_t at_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RawStream>> Unpack(std::unique_ptr<RawStream> packed) {
  std::string head(6, '\0');
  size_t got = 0;
  while (got < head.size()) {
    ASSIGN_OR_RETURN(const size_t more, packed->Read(head.data() + got, head.size() - got));
    if (more == 0) break;
    got += more;
  }
  head.resize(got);
  auto whole = std::make_unique<Prefixed>(head, std::move(packed));
  if (head.starts_with("\x1f\x8b")) return std::make_unique<GzipStream>(std::move(whole));
  if (head.starts_with("\x28\xb5\x2f\xfd")) return std::make_unique<ZstdStream>(std::move(whole));
  if (head == std::string_view("\xfd\x37\x7a\x58\x5a\x00", 6)) return std::make_unique<XzStream>(std::move(whole));
  return whole;
}

}  // namespace lectern::index
