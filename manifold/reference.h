// manifold/reference.h: the published low-dimensional estimator, in fp64: tangents, weights, the bias function, projection.
//
//   ASSIGN_OR_RETURN(auto fit, YxFitter::Make(points, /*dim=*/3, {.d = 2, .radius = 0.4, .beta = 4}));
//   YxPoint out = fit.Project(start);          // out.x: where the bias function vanishes; out.flag says why it stopped
//
// Shapes:  points [n, dim] row-major fp64; a start [dim]; tangents [n, dim, d], each column a unit vector.
// Threads: const methods from any thread; each call owns its scratch.
// Errors:  kInvalidArgument (d, radius, beta, shapes, a value that is not finite: row and column).
// Cost:    Make: n^2 distances and one dim x dim eigenproblem a sample. Evaluate: n distances and one eigenproblem; the
//          low-rank form never makes a dim x dim matrix, the printed form always does. Both give the same point to 1e-9.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace lectern::manifold {

enum class FitFlag : uint8_t { kOk = 0, kNoOp = 1, kNotLocal = 2, kAmbiguous = 3, kTooFew = 4 };
const char* FitFlagName(FitFlag flag);

// The exponent of the weights (1 - distance^2 / r^2)^beta: d + 2 keeps enough samples in play up to d = 3 only.
inline double DefaultBeta(int d) { return d <= 3 ? d + 2 : 2; }

enum class BiasForm {
  kYx,    // Pi_x (x - mu(x)): average first, then one averaged normal projector
  kCf18,  // Pi_x sum_i a_i P_i (x - x_i): each difference through its own sample's projector
};

struct YxParams {
  int d = 1;
  double radius = 0;          // of the weights
  double tangent_radius = 0;  // 0: twice `radius`
  double beta = 0;            // 0: DefaultBeta(d)
  BiasForm form = BiasForm::kYx;
  bool printed = true;        // the dim x dim eigenprojector as printed; false: the low-rank form
  double min_gap = 0;         // a smaller gap b_d - b_{d+1} leaves the point unmoved; 0: never (the published behaviour)
  int max_steps = 50;
  double done = 1e-16;        // of ||f||^2: there a fit stops
};

// Everything about one place x.
struct YxStep {
  FitFlag flag = FitFlag::kOk;
  std::vector<double> weights;    // of `samples`, summing to 1
  std::vector<int64_t> samples;   // those inside the radius, ascending
  std::vector<double> mean;       // mu(x)
  std::vector<double> bias;       // f(x)
  std::vector<double> tangent;    // [d, dim]: a row a direction
  double gap = 0;                 // b_d - b_{d+1} of B = sum a_i U_i U_i^T
};

struct YxPoint {
  std::vector<double> x;
  std::vector<double> tangent;       // [d, dim] at x
  std::vector<double> bias_norms;    // one a step, the start's first
  FitFlag flag = FitFlag::kOk;
};

class YxFitter {
 public:
  static absl::StatusOr<YxFitter> Make(std::vector<double> points, int dim, const YxParams& params);
  // With tangents given, [n, d, dim].
  static absl::StatusOr<YxFitter> MakeWithTangents(std::vector<double> points, int dim, std::vector<double> tangents,
                                                   const YxParams& params);

  YxStep Evaluate(std::span<const double> x) const;
  YxPoint Project(std::span<const double> start) const;
  // Half the gradient of ||f||^2, from the derivatives of the weights and of the projector. kYx only.
  std::vector<double> HalfGradient(std::span<const double> x) const;

  int dim() const { return dim_; }
  int64_t size() const { return static_cast<int64_t>(points_.size()) / dim_; }
  const YxParams& params() const { return params_; }
  std::span<const double> Point(int64_t i) const { return {points_.data() + i * dim_, static_cast<size_t>(dim_)}; }
  std::span<const double> Tangent(int64_t i) const {
    return {tangents_.data() + i * params_.d * dim_, static_cast<size_t>(params_.d * dim_)};
  }
  std::span<const double> TangentEigenvalues(int64_t i) const {  // of the scatter, not divided by its count; greatest first
    return {eigenvalues_.data() + i * dim_, static_cast<size_t>(dim_)};
  }

 private:
  YxFitter() = default;
  void FindTangents();
  YxStep EvaluateAmong(std::span<const double> x, std::span<const int64_t> candidates) const;
  std::vector<int64_t> Within(std::span<const double> x, double reach) const;  // samples, ascending
  void PrintedProjector(const YxStep& step, std::vector<double>& tangent, double& gap) const;
  void LowRankProjector(const YxStep& step, int64_t nearest, std::vector<double>& tangent, double& gap) const;

  int dim_ = 0;
  YxParams params_;
  std::vector<double> points_, tangents_, eigenvalues_;
};

}  // namespace lectern::manifold
