// The stream buffer of IStream.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <istream>
#include <limits>
#include <streambuf>
#include <utility>

#include "../blob_reader.hpp"

namespace aztorch::detail {

/// A std::streambuf that reads from a BlobReader.
///
/// BlobReader caches, reads ahead and splits large reads into parallel ranges. So this buffer only avoids one call per
/// character. Bulk reads bypass it and go directly into the caller's memory.
class IStreamBuf : public std::streambuf {
 public:
  explicit IStreamBuf(BlobReader reader) : reader_(std::move(reader)), position_(reader_.tell()) {}

  // The base class would copy pointers into the other object's buffer.
  IStreamBuf(const IStreamBuf&) = delete;
  IStreamBuf& operator=(const IStreamBuf&) = delete;

  BlobReader& reader() noexcept { return reader_; }
  const BlobReader& reader() const noexcept { return reader_; }

 protected:
  int_type underflow() override {
    if (gptr() == egptr()) fill_buffer();
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
    discard_buffer();
    position_ += count;
    return buffered + static_cast<std::streamsize>(count);
  }

  pos_type seekoff(off_type offset, std::ios_base::seekdir direction, std::ios_base::openmode which) override {
    if ((which & std::ios_base::in) == 0) return pos_type(off_type(-1));
    off_type base = 0;
    if (direction == std::ios_base::cur) base = position();
    if (direction == std::ios_base::end) base = static_cast<off_type>(reader_.size());
    if (offset > 0 && base > std::numeric_limits<off_type>::max() - offset) return pos_type(off_type(-1));
    return move_to(base + offset);
  }

  pos_type seekpos(pos_type position, std::ios_base::openmode which) override {
    return seekoff(off_type(position), std::ios_base::beg, which);
  }

  // The base class calls it when the previous character is not buffered or differs from `character`. Characters can be
  // read again, not changed.
  int_type pbackfail(int_type character) override {
    if (gptr() == eback()) {
      const off_type previous = position() - 1;
      if (previous < 0) return traits_type::eof();
      move_to(previous);
      fill_buffer();
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
  /// The position of the next character in the blob.
  off_type position() const { return static_cast<off_type>(position_) - (egptr() - gptr()); }

  void discard_buffer() { setg(buffer_.data(), buffer_.data(), buffer_.data()); }

  void fill_buffer() {
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
      discard_buffer();
    }
    return pos_type(target);
  }

  BlobReader reader_;
  std::uint64_t position_;  // of reader_: the end of the buffered bytes
  std::array<char, 8192> buffer_;
};

}  // namespace aztorch::detail
