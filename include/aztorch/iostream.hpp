// IStream and OStream: a blob as std::istream and std::ostream, over stream buffers of their own.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <istream>
#include <limits>
#include <ostream>
#include <streambuf>
#include <string>
#include <utility>

#include "blob.hpp"
#include "detail/deferred_writer.hpp"

namespace aztorch {

namespace detail {

// The library caches, reads ahead and reads large ranges in parallel, so this buffer only spares single characters a
// call each: bulk reads go past it, straight into the caller's memory, and no byte is asked for that nobody wanted.
class IStreamBuf : public std::streambuf {
 public:
  explicit IStreamBuf(BlobReader reader) : reader_(std::move(reader)), position_(reader_.tell()) {}

  // What std::streambuf has would copy its pointers into the other one's buffer.
  IStreamBuf(const IStreamBuf&) = delete;
  IStreamBuf& operator=(const IStreamBuf&) = delete;

  BlobReader& reader() noexcept { return reader_; }
  const BlobReader& reader() const noexcept { return reader_; }

 protected:
  int_type underflow() override {
    if (gptr() == egptr()) fill();
    return gptr() == egptr() ? traits_type::eof() : traits_type::to_int_type(*gptr());
  }

  std::streamsize xsgetn(char* destination, std::streamsize wanted) override {
    const std::streamsize buffered = std::min<std::streamsize>(wanted, egptr() - gptr());
    if (buffered > 0) {
      std::memcpy(destination, gptr(), static_cast<std::size_t>(buffered));
      gbump(static_cast<int>(buffered));
    }
    if (wanted <= buffered) return buffered;
    const std::size_t count = reader_.read(destination + buffered, static_cast<std::size_t>(wanted - buffered));
    forget();
    position_ += count;
    return buffered + static_cast<std::streamsize>(count);
  }

  pos_type seekoff(off_type offset, std::ios_base::seekdir direction, std::ios_base::openmode which) override {
    if ((which & std::ios_base::in) == 0) return pos_type(off_type(-1));
    off_type base = 0;
    if (direction == std::ios_base::cur) base = here();
    if (direction == std::ios_base::end) base = static_cast<off_type>(reader_.size());
    if (offset > 0 && base > std::numeric_limits<off_type>::max() - offset) return pos_type(off_type(-1));
    return move_to(base + offset);
  }

  pos_type seekpos(pos_type position, std::ios_base::openmode which) override {
    return seekoff(off_type(position), std::ios_base::beg, which);
  }

  // Reached when the character before is not buffered: fetch it again. The blob itself cannot be changed.
  int_type pbackfail(int_type character) override {
    if (gptr() == eback()) {
      const off_type before = here() - 1;
      if (before < 0) return traits_type::eof();
      move_to(before);
      fill();
      if (gptr() == egptr()) return traits_type::eof();
    } else {
      gbump(-1);
    }
    const bool any = traits_type::eq_int_type(character, traits_type::eof());
    if (any || traits_type::eq(traits_type::to_char_type(character), *gptr())) {
      return traits_type::to_int_type(*gptr());
    }
    gbump(1);
    return traits_type::eof();
  }

  std::streamsize showmanyc() override {
    const auto size = reader_.size();
    return position_ < size ? static_cast<std::streamsize>(size - position_) : -1;
  }

 private:
  off_type here() const { return static_cast<off_type>(position_) - (egptr() - gptr()); }

  void forget() { setg(buffer_.data(), buffer_.data(), buffer_.data()); }

  void fill() {
    const std::size_t count = reader_.read(buffer_.data(), buffer_.size());
    setg(buffer_.data(), buffer_.data(), buffer_.data() + count);
    position_ += count;
  }

  pos_type move_to(off_type target) {
    if (target < 0) return pos_type(off_type(-1));
    const off_type start = static_cast<off_type>(position_) - (egptr() - eback());
    if (target >= start && target <= static_cast<off_type>(position_)) {
      setg(eback(), eback() + (target - start), egptr());
    } else {
      position_ = reader_.seek(target);
      forget();
    }
    return pos_type(target);
  }

  BlobReader reader_;
  std::uint64_t position_;  // the reader's own: where the buffered bytes end
  std::array<char, 8192> buffer_;
};

// No failure shows before close(): see DeferredWriter.
class OStreamBuf : public std::streambuf {
 public:
  explicit OStreamBuf(BlobWriter writer) : blob_(std::move(writer)) { empty(); }

  OStreamBuf(const OStreamBuf&) = delete;
  OStreamBuf& operator=(const OStreamBuf&) = delete;

  BlobWriter& writer() noexcept { return blob_.writer(); }

  bool failed() const noexcept { return blob_.failed(); }

  void close() {
    send_pending();
    blob_.close();
  }

 protected:
  int_type overflow(int_type character) override {
    send_pending();
    if (!traits_type::eq_int_type(character, traits_type::eof())) sputc(traits_type::to_char_type(character));
    return traits_type::not_eof(character);
  }

  std::streamsize xsputn(const char* data, std::streamsize length) override {
    if (length <= epptr() - pptr()) {
      std::memcpy(pptr(), data, static_cast<std::size_t>(length));
      pbump(static_cast<int>(length));
    } else {
      send_pending();
      blob_.write(data, static_cast<std::size_t>(length));
    }
    return length;
  }

  // Hands over what is pending and no more: a block per std::endl would be slow and use up the blob's 50,000 blocks.
  int sync() override {
    send_pending();
    return 0;
  }

  pos_type seekoff(off_type offset, std::ios_base::seekdir direction, std::ios_base::openmode which) override {
    const bool asks_position = offset == 0 && direction == std::ios_base::cur && (which & std::ios_base::out) != 0;
    return pos_type(asks_position ? static_cast<off_type>(blob_.taken()) + (pptr() - pbase()) : off_type(-1));
  }

 private:
  void empty() { setp(buffer_.data(), buffer_.data() + buffer_.size()); }

  void send_pending() {
    blob_.write(pbase(), static_cast<std::size_t>(pptr() - pbase()));
    empty();
  }

  DeferredWriter blob_;
  std::array<char, 16384> buffer_;
};

}  // namespace detail

// A blob as std::istream: seekable, with std::getline and formatted input; not to be moved. A read that fails throws
// aztorch::Error from the call that met it; after exceptions(std::ios_base::goodbit) it only sets badbit, as with other
// streams.
class IStream : public std::istream {
 public:
  explicit IStream(const std::string& url, const Client& client = {}) : IStream(BlobReader(url, client)) {}

  explicit IStream(BlobReader reader) : std::istream(nullptr), buffer_(std::move(reader)) {
    rdbuf(&buffer_);
    exceptions(std::ios_base::badbit);
  }

  const BlobReader& reader() const noexcept { return buffer_.reader(); }

  void close() { buffer_.reader().close(); }

 private:
  detail::IStreamBuf buffer_;
};

// A blob as std::ostream, not to be moved. close() publishes it, all or nothing, and throws the first error that any
// write met; a stream that goes away without close() publishes nothing. Writing never throws and never sets a state bit,
// so that torch::save(model, stream) survives a failure: failed() tells whether going on is of use.
class OStream : public std::ostream {
 public:
  explicit OStream(const std::string& url, const Client& client = {}, azt_blob_mode mode = AZT_BLOB_MODE_WRITE)
      : OStream(BlobWriter(url, client, mode)) {}

  explicit OStream(BlobWriter writer) : std::ostream(nullptr), buffer_(std::move(writer)) { rdbuf(&buffer_); }

  // For set_if_match() and etag(). What is written to it directly passes bytes that the stream still holds.
  BlobWriter& writer() noexcept { return buffer_.writer(); }

  bool failed() const noexcept { return buffer_.failed(); }

  void close() { buffer_.close(); }

 private:
  detail::OStreamBuf buffer_;
};

}  // namespace aztorch
