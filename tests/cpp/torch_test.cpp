// save, load, jit_load and the state_dict functions, on Azurite and on a server that fails.
// Usage: torch_test FIXTURE_DIRECTORY OUTPUT_DIRECTORY [FILTER]
// Files that save_state_dict wrote stay in OUTPUT_DIRECTORY, for read_state_dict.py.
#include <aztorch/torch.hpp>  // first, to check that it compiles alone

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
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

template <typename Value>
std::string saved(const Value& value) {
  std::ostringstream out;
  torch::save(value, out);
  return out.str();
}

Plan refuse_all() {
  return [](const std::string&, int) { return Action::refuse; };
}

Plan reset_all() {
  return [](const std::string&, int) { return Action::reset; };
}

}  // namespace

TEST(modules_tensors_vectors_and_optimizers_round_trip) {
  Net net;
  fill(*net);
  aztorch::save(net, blob_url("net.pt"));
  Net again;
  aztorch::load(again, blob_url("net.pt"));
  EXPECT(same_state(*net, *again));

  aztorch::save(*net, blob_url("reference.pt"));
  NetImpl by_reference;
  aztorch::load(by_reference, blob_url("reference.pt"));
  EXPECT(same_state(*net, by_reference));

  const std::shared_ptr<NetImpl> pointer = net.ptr();
  aztorch::save(pointer, blob_url("pointer.pt"));
  auto loaded = std::make_shared<NetImpl>();
  aztorch::load(loaded, blob_url("pointer.pt"));
  EXPECT(same_state(*net, *loaded));

  const torch::Tensor tensor = torch::arange(1000.0).reshape({10, 100});
  aztorch::save(tensor, blob_url("tensor.pt"));
  torch::Tensor same;
  aztorch::load(same, blob_url("tensor.pt"));
  EXPECT(torch::equal(tensor, same));

  aztorch::save(std::vector<torch::Tensor>{tensor, tensor + 1}, blob_url("vector.pt"));
  std::vector<torch::Tensor> vector;
  aztorch::load(vector, blob_url("vector.pt"));
  EXPECT_EQUAL(vector.size(), 2U);
  EXPECT(torch::equal(vector.at(1), tensor + 1));

  torch::nn::Linear line(2, 2);
  torch::optim::Adam optimizer(line->parameters(), 0.01);
  line->forward(torch::ones({1, 2})).sum().backward();
  optimizer.step();
  aztorch::save(optimizer, blob_url("adam.pt"));
  torch::optim::Adam other(line->parameters(), 0.5);
  aztorch::load(other, blob_url("adam.pt"));
  EXPECT_EQUAL(other.state().size(), 2U);
}

TEST(an_archive_is_one_atomic_blob) {
  Net net;
  fill(*net);
  torch::serialize::OutputArchive out;
  torch::serialize::OutputArchive model;
  net->save(model);
  out.write("model", model);
  out.write("step", torch::tensor(1234));
  aztorch::save(out, blob_url("checkpoint.pt"));

  torch::serialize::InputArchive in;
  aztorch::load(in, blob_url("checkpoint.pt"));
  torch::serialize::InputArchive part;
  in.read("model", part);
  Net again;
  again->load(part);
  torch::Tensor step;
  in.read("step", step);
  EXPECT(same_state(*net, *again));
  EXPECT_EQUAL(step.item<std::int64_t>(), 1234);
}

TEST(torch_save_and_torch_load_work_with_the_streams) {
  Net net;
  fill(*net);
  aztorch::OStream out(absent_blob_url("stream.pt"));
  torch::save(net, out);
  EXPECT(!aztorch::exists(blob_url("stream.pt")));
  out.close();
  aztorch::IStream in(blob_url("stream.pt"));
  Net again;
  torch::load(again, in);
  EXPECT(same_state(*net, *again));
}

TEST(jit_load_reads_torchscript) {
  for (const std::string version : {"1.13", "2.15"}) {
    torch::jit::Module script = aztorch::jit_load(uploaded_fixture("script-" + version + ".pt"));
    const auto result = script.forward({torch::ones({1, 2})}).toTensor();
    EXPECT(torch::equal(result, torch::tensor({{101.0F, 106.0F}})));
  }
}

TEST(a_missing_blob_is_not_found) {
  Net net;
  torch::Tensor tensor;
  EXPECT_THROWS(aztorch::Error, aztorch::load(net, blob_url("missing")),
               EXPECT_EQUAL(thrown.status(), AZT_STATUS_NOT_FOUND));
  EXPECT_THROWS(aztorch::Error, aztorch::load(tensor, blob_url("missing")),
               EXPECT_EQUAL(thrown.service_code(), "BlobNotFound"));
  EXPECT_THROWS(aztorch::Error, aztorch::jit_load(blob_url("missing")),
               EXPECT_EQUAL(thrown.http_status(), 404));
  EXPECT_THROWS(aztorch::Error, aztorch::load_state_dict(net, blob_url("missing")),
               EXPECT_EQUAL(thrown.status(), AZT_STATUS_NOT_FOUND));
}

TEST(a_failed_save_throws_and_does_not_abort) {
  const torch::nn::Linear model = large_model();
  torch::serialize::OutputArchive archive;
  archive.write("weight", model->weight);
  for (const Plan& plan : {refuse_all(), reset_all()}) {
    FaultServer server("", plan);
    const auto client = client_without_retries();
    const auto check = [&server](const aztorch::Error& error) {
      EXPECT(error.status() == AZT_STATUS_PERMISSION_DENIED || error.status() == AZT_STATUS_UNAVAILABLE);
      EXPECT_EQUAL(error.http_status(), error.status() == AZT_STATUS_PERMISSION_DENIED ? 403 : 0);
      EXPECT(server.puts() > 0);
    };
    EXPECT_THROWS(aztorch::Error, aztorch::save(model, server.url(), client), check(thrown));
    EXPECT_THROWS(aztorch::Error, aztorch::save(*model, server.url(), client), check(thrown));
    EXPECT_THROWS(aztorch::Error, aztorch::save(archive, server.url(), client), check(thrown));
    EXPECT_THROWS(aztorch::Error, aztorch::save_state_dict(model, server.url(), client), check(thrown));
    aztorch::OStream out(server.url(), client);
    torch::save(model, out);
    EXPECT(out.good());
    EXPECT_THROWS(aztorch::Error, out.close(), check(thrown));
    EXPECT_THROWS(aztorch::Error, out.close(), check(thrown));
  }
}

TEST(a_save_that_fails_at_any_request_throws) {
  const torch::nn::Linear model = large_model();
  // Small blocks, so that requests fail at the start, in the middle and at the end.
  const aztorch::Client client(
      aztorch::ClientOptions().set_anonymous().set_max_retries(0).set_block_size(std::uint64_t{4} << 20));
  int requests = 0;
  {
    FaultServer server("", [](const std::string&, int) { return Action::serve; });
    aztorch::save(model, server.url(), client);
    requests = server.puts();
  }
  EXPECT(requests >= 6);
  for (int bad = 0; bad < requests; ++bad) {
    FaultServer server("", [bad](const std::string&, int number) {
      return number == bad ? Action::refuse : Action::serve;
    });
    EXPECT_THROWS(aztorch::Error, aztorch::save(model, server.url(), client),
                 EXPECT_EQUAL(thrown.status(), AZT_STATUS_PERMISSION_DENIED));
  }
}

TEST(a_save_that_torch_refuses_publishes_nothing) {
  const std::string url = absent_blob_url("refused.pt");
  EXPECT_THROWS(c10::Error, aztorch::save(torch::nn::Linear(nullptr), url), EXPECT(!aztorch::exists(url)));
}

TEST(a_failed_load_throws_the_error_of_the_request) {
  const torch::nn::Linear model = large_model();
  const auto client = client_without_retries();
  torch::nn::Linear target = large_model();
  const torch::Tensor before = target->weight.clone();
  const auto check = [](const aztorch::Error& error) {
    EXPECT_EQUAL(error.status(), AZT_STATUS_PERMISSION_DENIED);
    EXPECT_EQUAL(error.service_code(), "AuthorizationFailure");
    EXPECT_EQUAL(error.request_id(), "fault-server");
  };
  // Each load needs a server of its own, which serves only the first GET.
  {
    FaultServer fresh(saved(model), refuse_gets_after(1));
    EXPECT_THROWS(aztorch::Error, aztorch::load(target, fresh.url(), client), check(thrown));
  }
  {
    FaultServer fresh(saved(model), refuse_gets_after(1));
    EXPECT_THROWS(aztorch::Error, aztorch::jit_load(fresh.url(), client), check(thrown));
  }
  {
    FaultServer fresh(saved(model), refuse_gets_after(1));
    aztorch::IStream in(fresh.url(), client);
    EXPECT_THROWS(aztorch::Error, torch::load(target, in), check(thrown));
  }
  EXPECT(torch::equal(target->weight, before));
}

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: torch_test FIXTURE_DIRECTORY OUTPUT_DIRECTORY [FILTER]\n");
    return 2;
  }
  fixture_directory() = argv[1];
  output_directory() = argv[2];
  return check::run_all(argc - 2, argv + 2);
}
