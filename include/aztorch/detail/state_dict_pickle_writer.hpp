// Writes the pickle of a state_dict, as Python's torch.save does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor_view.hpp"

namespace aztorch::detail {

/// Writes data.pkl of a state_dict file: a pickle of protocol 2 that holds an OrderedDict of
/// torch._utils._rebuild_tensor_v2 calls. torch.load accepts it, with weights_only=True too. Comments name Python's
/// opcodes.
class StateDictPickleWriter {
 public:
  StateDictPickleWriter() {
    out_ = "\x80\x02";  // PROTO 2
    put_ordered_dict();
    out_ += '(';  // MARK, closed by SETITEMS
  }

  /// Appends an entry. Throws std::length_error for a name of more than 4 GiB.
  void add(std::string_view name, const TensorView& view) {
    put_text(name);
    put_global("torch._utils", "_rebuild_tensor_v2");
    out_ += '(';
    put_storage(view);
    put_integer(view.offset);
    put_tuple(view.sizes);
    put_tuple(view.strides);
    out_ += '\x89';      // NEWFALSE: requires_grad; a state_dict holds detached tensors
    put_ordered_dict();  // backward hooks
    out_ += "tR";        // TUPLE, REDUCE
  }

  /// The pickle. Called once, last.
  std::string finish() {
    out_ += "u.";  // SETITEMS, STOP
    return std::move(out_);
  }

 private:
  void put_storage(const TensorView& view) {
    const DtypeInfo& dtype = dtype_info(view.dtype);
    out_ += '(';
    put_text("storage");
    put_global("torch", dtype.storage);
    put_text(view.storage);
    put_text("cpu");
    put_integer(static_cast<std::int64_t>(view.storage_bytes / dtype.size));
    out_ += "tQ";  // TUPLE, BINPERSID
  }

  void put_ordered_dict() {
    put_global("collections", "OrderedDict");
    out_ += ")R";  // EMPTY_TUPLE, REDUCE
  }

  void put_global(std::string_view module, std::string_view name) {
    out_ += 'c';
    out_ += module;
    out_ += '\n';
    out_ += name;
    out_ += '\n';
  }

  void put_text(std::string_view text) {
    if (text.size() > UINT32_MAX) throw std::length_error("a name of more than 4 GiB");
    out_ += 'X';  // BINUNICODE
    put_unsigned(text.size(), 4);
    out_ += text;
  }

  void put_tuple(const std::vector<std::int64_t>& values) {
    out_ += '(';
    for (const std::int64_t value : values) put_integer(value);
    out_ += 't';
  }

  void put_integer(std::int64_t value) {
    if (value >= 0 && value <= INT32_MAX) {
      out_ += 'J';  // BININT
      put_unsigned(static_cast<std::uint64_t>(value), 4);
    } else {
      out_ += "\x8a\x08";  // LONG1 of 8 bytes
      put_unsigned(static_cast<std::uint64_t>(value), 8);
    }
  }

  void put_unsigned(std::uint64_t value, std::size_t width) {
    for (std::size_t i = 0; i < width; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xffU);
  }

  std::string out_;
};

}  // namespace aztorch::detail
