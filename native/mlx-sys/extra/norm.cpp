// Layer norm, RMS norm and softmax: along the rows of the last axis.

#include "fused.h"

#include <tuple>

#include "rows.hpp"
#include "threads.hpp"

namespace emily {
namespace {

// Has `f(from, to, row)` fill each row of the result.
template <typename F>
void each_row(const Rows& x, array& out, CommandEncoder& encoder, F f) {
  size_t n = out.shape(-1), rows = out.size() / n;
  encoder.dispatch(
      [x, f, rows, n, to = out.data<char>(), bytes = n * out.itemsize()] {
        parallel(rows, rows_of_share(n), [&](size_t begin, size_t end, size_t) {
          for (auto row = begin; row < end; row++) {
            f(x[row], to + row * bytes, row);
          }
        });
      });
}

class EmilyLayerNorm : public HostPrimitive {
 public:
  EmilyLayerNorm(mlx::core::Stream s, float epsilon)
      : HostPrimitive(s), epsilon_(epsilon) {}

  void eval_cpu(const std::vector<array>& inputs, array& out) override {
    if (!take_memory(inputs[0], out)) {
      own_memory(out);
    }
    if (out.size() == 0) {
      return;
    }
    auto& encoder = this->encoder();
    int n = out.shape(-1);
    auto gamma = dense(inputs[1], n, encoder).data<void>();
    auto beta = dense(inputs[2], n, encoder).data<void>();
    each_row(
        Rows(dense(inputs[0], n, encoder), out.shape()),
        out,
        encoder,
        [=, type = float_type(out), epsilon = epsilon_](
            const char* from, char* to, size_t) {
          kernels().layer_norm(type, from, gamma, beta, epsilon, n, to);
        });
  }

  DEFINE_NAME(EmilyLayerNorm)

  bool is_equivalent(const Primitive& other) const override {
    return state() == static_cast<const EmilyLayerNorm&>(other).state();
  }

  float state() const {
    return epsilon_;
  }

 private:
  float epsilon_;
};

class EmilyRmsNorm : public HostPrimitive {
 public:
  EmilyRmsNorm(mlx::core::Stream s, float epsilon)
      : HostPrimitive(s), epsilon_(epsilon) {}

  void eval_cpu(const std::vector<array>& inputs, array& out) override {
    if (!take_memory(inputs[0], out)) {
      own_memory(out);
    }
    if (out.size() == 0) {
      return;
    }
    auto& encoder = this->encoder();
    int n = out.shape(-1);
    Rows x(dense(inputs[0], n, encoder), out.shape());
    auto type = float_type(out);
    if (inputs.size() == 1) {
      return each_row(
          x,
          out,
          encoder,
          [=, epsilon = epsilon_](const char* from, char* to, size_t) {
            kernels().rms_norm(type, from, nullptr, epsilon, n, to);
          });
    }
    Rows gamma(dense(inputs[1], n, encoder), inputs[1].shape());
    each_row(
        x,
        out,
        encoder,
        [=, rows = inputs[1].size() / n, epsilon = epsilon_](
            const char* from, char* to, size_t row) {
          kernels().rms_norm(type, from, gamma[row % rows], epsilon, n, to);
        });
  }

  DEFINE_NAME(EmilyRmsNorm)

  bool is_equivalent(const Primitive& other) const override {
    return state() == static_cast<const EmilyRmsNorm&>(other).state();
  }

  float state() const {
    return epsilon_;
  }

 private:
  float epsilon_;
};

class EmilySoftmax : public HostPrimitive {
 public:
  using HostPrimitive::HostPrimitive;

  void eval_cpu(const std::vector<array>& inputs, array& out) override {
    if (!take_memory(inputs[0], out)) {
      own_memory(out);
    }
    if (out.size() == 0) {
      return;
    }
    auto& encoder = this->encoder();
    int n = out.shape(-1);
    each_row(
        Rows(dense(inputs[0], n, encoder), out.shape()),
        out,
        encoder,
        [=, type = float_type(out)](const char* from, char* to, size_t) {
          kernels().softmax(type, from, n, to);
        });
  }

  DEFINE_NAME(EmilySoftmax)
  DEFINE_DEFAULT_IS_EQUIVALENT()

  std::tuple<> state() const {
    return {};
  }
};

} // namespace
} // namespace emily

extern "C" int emily_layer_norm(
    mlx_array* res,
    const mlx_array x,
    const mlx_array gamma,
    const mlx_array beta,
    float epsilon,
    const mlx_stream s) {
  return emily::made<emily::EmilyLayerNorm>(
      res, {x, gamma, beta}, s, epsilon);
}

extern "C" int emily_rms_norm(
    mlx_array* res,
    const mlx_array x,
    const mlx_array gamma,
    float epsilon,
    const mlx_stream s) {
  return emily::made<emily::EmilyRmsNorm>(
      res, {x, gamma}, s, epsilon);
}

extern "C" int
emily_softmax(mlx_array* res, const mlx_array x, const mlx_stream s) {
  return emily::made<emily::EmilySoftmax>(
      res, {x}, s);
}
