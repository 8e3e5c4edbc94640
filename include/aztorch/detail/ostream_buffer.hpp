// The stream buffer of OStream.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <ostream>
#include <streambuf>
#include <utility>

#include "../blob_writer.hpp"
#include "deferred_writer.hpp"

namespace aztorch::detail {

/// A std::streambuf that writes to a blob. Writes never fail: only close() throws, see DeferredWriter.
class OStreamBuf : public std::streambuf {
 public:
  explicit OStreamBuf(BlobWriter writer) : blob_(std::move(writer)) { reset_buffer(); }

  // The base class would copy pointers into the other object's buffer.
  OStreamBuf(const OStreamBuf&) = delete;
  OStreamBuf& operator=(const OStreamBuf&) = delete;

  BlobWriter& writer() noexcept { return blob_.writer(); }

  bool failed() const noexcept { return blob_.failed(); }

  void close() {
    write_buffer();
    blob_.close();
  }

 protected:
  int_type overflow(int_type character) override {
    write_buffer();
    if (!traits_type::eq_int_type(character, traits_type::eof())) sputc(traits_type::to_char_type(character));
    return traits_type::not_eof(character);
  }

  std::streamsize xsputn(const char* data, std::streamsize length) override {
    if (length <= epptr() - pptr()) {
      std::memcpy(pptr(), data, static_cast<std::size_t>(length));
      pbump(static_cast<int>(length));
    } else {
      write_buffer();
      blob_.write(data, static_cast<std::size_t>(length));
    }
    return length;
  }

  // Does not flush the blob writer: each flush ends a block, and one block per std::endl would be slow and would use up
  // the 50,000 blocks of a blob.
  int sync() override {
    write_buffer();
    return 0;
  }

  // Supports only a query of the position: a blob is written from front to back.
  pos_type seekoff(off_type offset, std::ios_base::seekdir direction, std::ios_base::openmode which) override {
    const bool is_tell = offset == 0 && direction == std::ios_base::cur && (which & std::ios_base::out) != 0;
    return pos_type(is_tell ? static_cast<off_type>(blob_.bytes_accepted()) + (pptr() - pbase()) : off_type(-1));
  }

 private:
  void reset_buffer() { setp(buffer_.data(), buffer_.data() + buffer_.size()); }

  void write_buffer() {
    blob_.write(pbase(), static_cast<std::size_t>(pptr() - pbase()));
    reset_buffer();
  }

  DeferredWriter blob_;
  std::array<char, 16384> buffer_;
};

}  // namespace aztorch::detail
