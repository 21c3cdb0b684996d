// Activations and rotary embeddings.

#include "fused.h"

#include "rows.hpp"
#include "threads.hpp"

namespace emily {
namespace {

class EmilyActivation : public HostPrimitive {
 public:
  EmilyActivation(mlx::core::Stream s, Function function)
      : HostPrimitive(s), function_(function) {}

  void eval_cpu(const std::vector<array>& inputs, array& out) override {
    if (!take_memory(inputs[0], out) && !take_memory(inputs.back(), out)) {
      own_memory(out);
    }
    if (out.size() == 0) {
      return;
    }
    bool flat = inputs[0].flags().row_contiguous &&
        inputs.back().flags().row_contiguous;
    flat ? flatly(inputs, out) : by_row(inputs, out);
  }

  DEFINE_NAME(EmilyActivation)

  bool is_equivalent(const Primitive& other) const override {
    return state() == static_cast<const EmilyActivation&>(other).state();
  }

  int state() const {
    return int(function_);
  }

 private:
  void flatly(const std::vector<array>& inputs, array& out) {
    auto factor = inputs.size() > 1 ? inputs[1].data<char>() : nullptr;
    encoder().dispatch([x = inputs[0].data<char>(),
                        factor,
                        type = float_type(out),
                        function = function_,
                        size = out.size(),
                        width = out.itemsize(),
                        to = out.data<char>()] {
      parallel(size, SHARE / 2, [&](size_t begin, size_t end, size_t) {
        auto at = begin * width;
        kernels().activation(
            type,
            function,
            x + at,
            factor ? factor + at : nullptr,
            end - begin,
            to + at);
      });
    });
  }

  void by_row(const std::vector<array>& inputs, array& out) {
    auto& encoder = this->encoder();
    int n = out.shape(-1);
    Rows x(dense(inputs[0], n, encoder), out.shape());
    // With no factor, as often as with one, for nothing but its address.
    Rows factor(dense(inputs.back(), n, encoder), out.shape());
    encoder.dispatch([=,
                      factors = inputs.size() > 1,
                      type = float_type(out),
                      function = function_,
                      rows = out.size() / n,
                      bytes = n * out.itemsize(),
                      to = out.data<char>()] {
      parallel(rows, rows_of_share(n), [&](size_t begin, size_t end, size_t) {
        for (auto row = begin; row < end; row++) {
          kernels().activation(
              type,
              function,
              x[row],
              factors ? factor[row] : nullptr,
              n,
              to + row * bytes);
        }
      });
    });
  }

  Function function_;
};

// Of the tensor as it is, or where there is a gamma of what RMS norm gives of it.
class EmilyRotary : public HostPrimitive {
 public:
  EmilyRotary(mlx::core::Stream s, float epsilon)
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
    const auto& shape = out.shape();
    Rows x(dense(inputs[0], n, encoder), shape);
    Rows cosines(dense(inputs[1], n, encoder), shape);
    Rows sines(dense(inputs[2], n, encoder), shape);
    const void* gamma = nullptr;
    if (inputs.size() > 3) {
      gamma = dense(inputs[3], n, encoder).data<void>();
    }
    encoder.dispatch([=,
                      type = float_type(out),
                      epsilon = epsilon_,
                      rows = out.size() / n,
                      bytes = n * out.itemsize(),
                      to = out.data<char>()] {
      parallel(rows, rows_of_share(n), [&](size_t begin, size_t end, size_t) {
        for (auto row = begin; row < end; row++) {
          auto result = to + row * bytes;
          auto from = x[row];
          if (gamma) {
            kernels().rms_norm(type, from, gamma, epsilon, n, result);
            from = result;
          }
          kernels().rotary(
              type, from, cosines[row], sines[row], n / 2, result);
        }
      });
    });
  }

  DEFINE_NAME(EmilyRotary)

  bool is_equivalent(const Primitive& other) const override {
    return state() == static_cast<const EmilyRotary&>(other).state();
  }

  float state() const {
    return epsilon_;
  }

 private:
  float epsilon_;
};

} // namespace
} // namespace emily

extern "C" int emily_rotary(
    mlx_array* res,
    const mlx_array x,
    const mlx_array cosines,
    const mlx_array sines,
    const mlx_array gamma,
    float epsilon,
    const mlx_stream s) {
  return emily::made<emily::EmilyRotary>(
      res, {x, cosines, sines, gamma}, s, epsilon);
}

extern "C" int emily_activation(
    mlx_array* res,
    emily_function function,
    const mlx_array x,
    const mlx_array factor,
    const mlx_stream s) {
  return emily::made<emily::EmilyActivation>(
      res, {x, factor}, s, emily::Function(function));
}
