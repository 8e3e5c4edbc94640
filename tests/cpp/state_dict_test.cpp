// save_state_dict and load_state_dict. Part of torch_test.
#include <aztorch/torch/state_dict.hpp>  // first, to check that it compiles alone

#include <cstdint>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "check.hpp"
#include "container.hpp"
#include "fault_server.hpp"
#include "torch_support.hpp"

namespace {

struct BuffersImpl : torch::nn::Module {
  torch::Tensor add(const std::string& name, torch::IntArrayRef sizes, torch::Dtype dtype) {
    return register_buffer(name, torch::zeros(sizes, dtype));
  }
};
TORCH_MODULE(Buffers);

}  // namespace

TEST(a_failed_load_leaves_the_module_unchanged) {
  aztorch::save_state_dict(large_model(), blob_url("large_state.pt"));
  std::ostringstream bytes;
  bytes << aztorch::IStream(blob_url("large_state.pt")).rdbuf();
  const auto client = client_without_retries();
  // Fail at the second GET, at the third, and so on, until the load sends no more of them.
  int failures = 0;
  bool loaded = false;
  for (int served = 1; served < 64 && !loaded; ++served) {
    FaultServer server(bytes.str(), refuse_gets_after(served));
    torch::nn::Linear target = large_model();
    const torch::Tensor weight = target->weight.clone();
    const torch::Tensor bias = target->bias.clone();
    try {
      aztorch::load_state_dict(target, server.url(), true, client);
      loaded = true;
    } catch (const aztorch::Error& error) {
      ++failures;
      EXPECT_EQUAL(error.status(), AZT_STATUS_PERMISSION_DENIED);
      EXPECT(torch::equal(target->weight, weight) && torch::equal(target->bias, bias));
    }
  }
  EXPECT(failures > 0);
  EXPECT(loaded);
}

TEST(python_state_dicts_load_by_name) {
  for (const std::string version : {"1.13", "2.15"}) {
    for (const std::string kind : {"state_dict-", "plain_dict-", "protocol4-"}) {
      Net expected;
      fill(*expected);
      Net net;
      net->bn->named_buffers()["num_batches_tracked"].fill_(600);
      const auto keys = aztorch::load_state_dict(net, uploaded_fixture(kind + version + ".pt"));
      EXPECT(keys.missing_keys.empty() && keys.unexpected_keys.empty());
      EXPECT(same_state(*net, *expected));
      EXPECT(net->conv->weight.requires_grad());
    }
  }
}

TEST(a_missing_batch_norm_counter_is_an_error_in_new_files) {
  for (const std::string version : {"1.13", "2.15"}) {
    Net net;
    EXPECT_THROWS(aztorch::Error, aztorch::load_state_dict(net, uploaded_fixture("no_counter-" + version + ".pt")),
                  EXPECT_CONTAINS(thrown.what(), "1 key missing in the file: bn.num_batches_tracked"));
  }
}

TEST(every_dtype_and_layout_loads) {
  for (const std::string version : {"1.13", "2.15"}) {
    Buffers module;
    std::vector<torch::Tensor> six;
    for (const auto& [key, dtype] : std::vector<std::pair<std::string, torch::Dtype>>{
             {"float32", torch::kFloat}, {"float64", torch::kDouble}, {"float16", torch::kHalf},
             {"bfloat16", torch::kBFloat16}, {"int64", torch::kLong}, {"int32", torch::kInt},
             {"int16", torch::kShort}, {"int8", torch::kChar}, {"uint8", torch::kByte}}) {
      six.push_back(module->add(key, {2, 3}, dtype));
    }
    const auto boolean = module->add("bool", {3}, torch::kBool);
    const auto complex64 = module->add("complex64", {2}, torch::kComplexFloat);
    const auto complex128 = module->add("complex128", {2}, torch::kComplexDouble);
    const auto scalar = module->add("scalar", {}, torch::kLong);
    module->add("empty", {0, 3}, torch::kFloat);
    const auto base = module->add("base", {3, 4}, torch::kFloat);
    const auto transposed = module->add("transposed", {4, 3}, torch::kFloat);
    const auto column = module->add("column", {3}, torch::kFloat);
    const auto expanded = module->add("expanded", {4}, torch::kFloat);
    const auto parameter = module->add("parameter", {3}, torch::kFloat);
    const auto conjugate = module->add("conjugate", {1}, torch::kComplexFloat);
    const auto negative = module->add("negative", {1}, torch::kFloat);
    const auto attributes = module->add("attributes", {3}, torch::kFloat);
    const auto large = module->add("large_integer", {2}, torch::kLong);
    aztorch::load_state_dict(module, uploaded_fixture("kinds-" + version + ".pt"));

    for (const auto& tensor : six) {
      EXPECT(torch::equal(tensor, torch::arange(6).reshape({2, 3}).to(tensor.scalar_type())));
    }
    EXPECT(torch::equal(boolean, torch::tensor({true, false, true})));
    EXPECT(torch::equal(torch::view_as_real(complex64), torch::tensor({{1.0F, 2.0F}, {3.0F, -4.0F}})));
    EXPECT(torch::equal(torch::view_as_real(complex128), torch::tensor({{1.0, 2.0}, {3.0, -4.0}}, torch::kDouble)));
    EXPECT_EQUAL(scalar.item<std::int64_t>(), 7);
    EXPECT(torch::equal(base, torch::arange(12.0).reshape({3, 4})));
    EXPECT(torch::equal(transposed, base.t()));
    EXPECT(torch::equal(column, torch::tensor({2.0F, 6.0F, 10.0F})));
    EXPECT(torch::equal(expanded, torch::full({4}, 5.0F)));
    EXPECT(torch::equal(parameter, torch::arange(3.0)));
    // torch 1.13 does not save the conjugate and negative bits; Python reads the same values from its file.
    const float sign = version == "1.13" ? 1.0F : -1.0F;
    EXPECT(torch::equal(torch::view_as_real(conjugate), torch::tensor({{1.0F, sign * 2.0F}})));
    EXPECT(torch::equal(negative, torch::tensor({sign * 2.0F})));
    EXPECT(torch::equal(attributes, torch::arange(3.0)));
    EXPECT(torch::equal(large, torch::tensor({std::int64_t{1} << 40, -(std::int64_t{1} << 40)})));
  }
}

TEST(values_are_converted_to_the_dtype_of_the_module) {
  Net net;
  net->to(torch::kDouble);
  aztorch::load_state_dict(net, uploaded_fixture("state_dict-2.15.pt"));
  EXPECT(net->conv->weight.scalar_type() == torch::kDouble);
  EXPECT_EQUAL(net->conv->weight.flatten()[17].item<double>(), 17.0);
}

TEST(one_error_names_all_differences) {
  struct OtherImpl : torch::nn::Module {
    OtherImpl() {
      conv = register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 4, 3)));
      head = register_module("head", torch::nn::Linear(2, 2));
    }
    torch::nn::Conv2d conv = nullptr;
    torch::nn::Linear head = nullptr;
  } other;
  const std::string url = uploaded_fixture("state_dict-2.15.pt");
  const torch::Tensor before = other.head->weight.clone();
  EXPECT_THROWS(aztorch::Error, aztorch::load_state_dict(other, url), {
    EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT);
    const std::string text = thrown.what();
    EXPECT_CONTAINS(text, "2 keys missing in the file: head.weight, head.bias");
    EXPECT_CONTAINS(text, "9 keys unknown to the module: block.0.bias, block.0.weight, block.2.weight, bn.bias");
    EXPECT_CONTAINS(text, "conv.weight ([2, 1, 3, 3] in the file, [4, 1, 3, 3] in the module)");
    EXPECT_CONTAINS(text, "conv.bias ([2] in the file, [4] in the module)");
    EXPECT(!check::contains(text, "\n") && !check::contains(text, "sig="));
  });
  // Another shape is an error without strict, too.
  EXPECT_THROWS(aztorch::Error, aztorch::load_state_dict(other, url, false), {
    EXPECT_CONTAINS(thrown.what(), "conv.weight");
    EXPECT(!check::contains(thrown.what(), "head.weight"));
  });
  EXPECT(torch::equal(other.head->weight, before));
}

TEST(without_strict_other_names_are_returned) {
  struct PartImpl : torch::nn::Module {
    PartImpl() {
      bn = register_module("bn", torch::nn::BatchNorm2d(2));
      head = register_module("head", torch::nn::Linear(2, 2));
    }
    torch::nn::BatchNorm2d bn = nullptr;
    torch::nn::Linear head = nullptr;
  } part;
  const auto keys = aztorch::load_state_dict(part, uploaded_fixture("state_dict-1.13.pt"), false);
  EXPECT(keys.missing_keys == std::vector<std::string>{"head.weight", "head.bias"});
  EXPECT_EQUAL(keys.unexpected_keys.size(), 6U);
  EXPECT_EQUAL(part.bn->running_var[1].item<float>(), 501.0F);
}

TEST(errors_for_other_kinds_of_files_give_advice) {
  Net net;
  fill(*net);
  aztorch::save(net, blob_url("net.pt"));
  const auto says = [&net](const std::string& name, azt_status status, const std::string& text) {
    EXPECT_THROWS(aztorch::Error, aztorch::load_state_dict(net, blob_url(name)), {
      EXPECT_EQUAL(thrown.status(), status);
      EXPECT_CONTAINS(thrown.what(), text);
      EXPECT_CONTAINS(thrown.what(), name);
    });
  };
  says("net.pt", AZT_STATUS_INVALID_ARGUMENT, "use aztorch::load or aztorch::jit_load");
  for (const std::string version : {"1.13", "2.15"}) {
    for (const char* kind : {"hostile-", "nested-", "parallel-", "whole_module-", "old_format-", "tensor-", "script-",
                             "state_dict-", "kinds-"}) {
      uploaded_fixture(kind + version + ".pt");
    }
    says("hostile-" + version + ".pt", AZT_STATUS_UNSUPPORTED, "posix.system");
    says("nested-" + version + ".pt", AZT_STATUS_INVALID_ARGUMENT, "perhaps \"model\"");
    says("parallel-" + version + ".pt", AZT_STATUS_INVALID_ARGUMENT, "model.module.state_dict()");
    says("whole_module-" + version + ".pt", AZT_STATUS_UNSUPPORTED, "torch.nn.modules.linear.Linear");
    says("tensor-" + version + ".pt", AZT_STATUS_UNSUPPORTED, "save model.state_dict()");
    says("old_format-" + version + ".pt", AZT_STATUS_UNSUPPORTED, "save it again with torch.save");
    says("script-" + version + ".pt", AZT_STATUS_INVALID_ARGUMENT, "aztorch::jit_load");
    for (const std::string& name : {"state_dict-" + version + ".pt", "kinds-" + version + ".pt"}) {
      EXPECT_THROWS(aztorch::Error, aztorch::load(net, blob_url(name)),
                   EXPECT_CONTAINS(thrown.what(), "aztorch::load_state_dict"));
      EXPECT_THROWS(aztorch::Error, aztorch::jit_load(blob_url(name)),
                   EXPECT_CONTAINS(thrown.what(), "aztorch::load_state_dict"));
    }
    EXPECT_THROWS(aztorch::Error, aztorch::load(net, blob_url("old_format-" + version + ".pt")),
                 EXPECT_CONTAINS(thrown.what(), "save it again with torch.save"));
  }
  Net expected;
  fill(*expected);
  EXPECT(same_state(*net, *expected));
}

TEST(damaged_files_are_errors) {
  std::ifstream file(fixture_directory() + "/state_dict-2.15.pt", std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(file), {}};
  EXPECT(!whole.empty());
  Net net;
  for (std::size_t length = 0; length < whole.size(); length += 97) {
    aztorch::BlobWriter writer(blob_url("damaged.pt"));
    writer.write(whole.data(), length);
    writer.close();
    EXPECT_THROWS(aztorch::Error, aztorch::load_state_dict(net, blob_url("damaged.pt")),
                 EXPECT_EQUAL(thrown.status(), AZT_STATUS_CORRUPT));
  }
}

TEST(saved_state_dicts_load_again) {
  Net net;
  fill(*net);
  aztorch::save_state_dict(net, blob_url("state.pt"));
  Net again;
  aztorch::load_state_dict(again, blob_url("state.pt"));
  EXPECT(same_state(*net, *again));
  aztorch::download(blob_url("state.pt"), output_directory() + "/net.pt");

  Buffers kinds;
  kinds->register_buffer("bfloat16", torch::arange(6).to(torch::kBFloat16));
  kinds->register_buffer("bool", torch::tensor({true, false}));
  kinds->register_buffer("scalar", torch::tensor(std::int64_t{7}));
  kinds->register_buffer("empty", torch::zeros({0, 3}));
  const auto base = kinds->register_buffer("base", torch::arange(12.0).reshape({3, 4}));
  kinds->register_buffer("transposed", base.t());
  kinds->register_buffer("column", base.select(1, 2));
  kinds->register_buffer("conjugate", torch::conj(torch::complex(torch::ones({1}), torch::ones({1}))));
  aztorch::save_state_dict(kinds, blob_url("kinds.pt"));
  aztorch::download(blob_url("kinds.pt"), output_directory() + "/kinds.pt");
  Buffers other;
  for (const auto& [key, tensor] : named_tensors(*kinds)) other->add(key, tensor.sizes(), tensor.scalar_type());
  aztorch::load_state_dict(other, blob_url("kinds.pt"));
  EXPECT(same_state(*kinds, *other));
}

TEST(errors_name_the_tensor_that_cannot_be_saved) {
  Buffers module;
  module->register_buffer("sparse", torch::eye(3).to_sparse());
  const std::string url = absent_blob_url("sparse.pt");
  EXPECT_THROWS(aztorch::Error, aztorch::save_state_dict(module, url), {
    EXPECT_EQUAL(thrown.status(), AZT_STATUS_UNSUPPORTED);
    EXPECT_CONTAINS(thrown.what(), "\"sparse\"");
    EXPECT(!check::contains(thrown.what(), "sig="));
  });
  EXPECT(!aztorch::exists(url));
  EXPECT_THROWS(aztorch::Error, aztorch::save_state_dict(module, "https://user:hunter2@example.org/container/blob"), {
    EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT);
    EXPECT(!check::contains(thrown.what(), "hunter2"));
  });
  const torch::nn::Linear empty(nullptr);
  EXPECT_THROWS(aztorch::Error, aztorch::save_state_dict(empty, blob_url("empty.pt")),
               EXPECT_EQUAL(thrown.status(), AZT_STATUS_INVALID_ARGUMENT));
}
