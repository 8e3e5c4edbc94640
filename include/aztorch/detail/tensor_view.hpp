// Tensors and element types as a state_dict file describes them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace aztorch::detail {

/// An element type, in the order of kDtypes.
enum class Dtype : std::uint8_t {
  float32, float64, float16, bfloat16, int64, int32, int16, int8, uint8, boolean, complex64, complex128,
};

struct DtypeInfo {
  Dtype dtype;
  std::uint8_t size;         // of an element, in bytes
  std::string_view storage;  // the class in Python's module torch that names the dtype in a pickle
};

inline constexpr std::array<DtypeInfo, 12> kDtypes{{
    {Dtype::float32, 4, "FloatStorage"},
    {Dtype::float64, 8, "DoubleStorage"},
    {Dtype::float16, 2, "HalfStorage"},
    {Dtype::bfloat16, 2, "BFloat16Storage"},
    {Dtype::int64, 8, "LongStorage"},
    {Dtype::int32, 4, "IntStorage"},
    {Dtype::int16, 2, "ShortStorage"},
    {Dtype::int8, 1, "CharStorage"},
    {Dtype::uint8, 1, "ByteStorage"},
    {Dtype::boolean, 1, "BoolStorage"},
    {Dtype::complex64, 8, "ComplexFloatStorage"},
    {Dtype::complex128, 16, "ComplexDoubleStorage"},
}};

inline const DtypeInfo& dtype_info(Dtype dtype) { return kDtypes[static_cast<std::size_t>(dtype)]; }

/// A tensor in a state_dict file: a strided view of the record "data/<storage>".
struct TensorView {
  std::string_view storage;
  std::uint64_t storage_bytes = 0;
  Dtype dtype = Dtype::float32;
  std::int64_t offset = 0;  // in elements, as are the strides
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;
  bool conjugate = false;
  bool negative = false;
};

}  // namespace aztorch::detail
