#include "service/eval/manifold/synthetic.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "base/file.h"
#include "base/json.h"
#include "manifold/contraction.h"
#include "manifold/richardson.h"
#include "manifold/shapes.h"

namespace lectern::eval {
namespace {

using manifold::Shape;

struct Case {
  Shape shape;
  int64_t samples, starts;
  double sigma, c;                // radius = c sqrt(sigma)
  ErrorPair yx, cf18, prototype;  // published by the authors; of the specification's prototype
};

// The published table: the authors' radii were tuned a noise level at a time with the truth known.
constexpr Case kPublished[] = {
    {Shape::kCircle, 300, 300, .02, 2.0, {.0054, .0165}, {.0058, .0225}, {.0056, .0169}},
    {Shape::kCircle, 300, 300, .04, 1.8, {.0094, .0269}, {.0108, .0336}, {.0099, .0286}},
    {Shape::kCircle, 300, 300, .06, 1.6, {.0129, .0364}, {.0137, .0436}, {.0136, .0395}},
    {Shape::kSphere, 1000, 1000, .02, 2.5, {.0102, .0325}, {.0118, .0547}, {.0102, .0335}},
    {Shape::kSphere, 1000, 1000, .04, 2.0, {.0148, .0497}, {.0228, .0731}, {.0147, .0494}},
    {Shape::kSphere, 1000, 1000, .06, 2.0, {.0226, .0647}, {.0215, .0806}, {.0223, .0625}},
    {Shape::kTorus, 500, 500, .01, 1.0, {.0099, .0521}, {.0137, .0582}, {}},
    {Shape::kTorus, 500, 500, .02, 1.6, {}, {}, {.0129, .0733}},
    {Shape::kTorus, 500, 500, .04, 1.2, {}, {}, {.0216, .1019}},
    {Shape::kTorus, 500, 500, .06, 1.4, {}, {}, {.0341, .1204}},
};
constexpr Case kDense[] = {
    {Shape::kCircle, 20000, 100, .02, 1.4, {}, {}, {.0022, .0037}}, {Shape::kCircle, 20000, 100, .06, 1.4, {}, {}, {.0076, .0107}},
    {Shape::kSphere, 10000, 100, .06, 1.4, {}, {}, {.0120, .0273}}, {Shape::kSphere, 40000, 100, .02, 1.4, {}, {}, {.0036, .0078}},
    {Shape::kSphere, 40000, 100, .04, 1.4, {}, {}, {.0079, .0135}}, {Shape::kTorus, 10000, 100, .04, 1.0, {}, {}, {.0093, .0271}},
    {Shape::kTorus, 10000, 100, .06, 1.0, {}, {}, {.0153, .0445}},
};

struct Trial {
  ErrorPair start, noisy, yx, richardson, unguarded, cf18, mean, ysl23;
  double extrapolated = 0, yx_seconds = 0;
};

template <class At>
ErrorPair Errors(Shape shape, int64_t n, const At& at) {
  ErrorPair pair{0, 0};
  for (int64_t i = 0; i < n; ++i) {
    const double error = manifold::DistanceToShape(shape, at(i));
    pair.average += error / static_cast<double>(n);
    pair.maximum = std::max(pair.maximum, error);
  }
  return pair;
}

absl::StatusOr<Trial> RunTrial(const Case& c, uint64_t seed, bool dense) {
  const int dim = manifold::ShapeDim(c.shape);
  Rng rng(seed, static_cast<uint64_t>(c.samples) * 1000 + static_cast<uint64_t>(c.sigma * 1000) * 10 + static_cast<uint64_t>(c.shape));
  std::vector<double> samples = manifold::SampleShape(c.shape, c.samples, rng);
  manifold::AddGaussian(c.sigma, rng, samples);
  std::vector<double> starts = manifold::SampleShape(c.shape, c.starts, rng);
  const double spread = .5 * std::sqrt(c.sigma) / std::sqrt(static_cast<double>(dim));
  for (double& value : starts) value += spread * (2 * rng.Uniform() - 1);
  const auto row = [dim](const std::vector<double>& points, int64_t i) { return std::span(points).subspan(static_cast<size_t>(i * dim), static_cast<size_t>(dim)); };
  Trial trial;
  trial.start = Errors(c.shape, c.starts, [&](int64_t i) { return row(starts, i); });
  trial.noisy = Errors(c.shape, c.samples, [&](int64_t i) { return row(samples, i); });
  const manifold::YxParams params{.d = manifold::ShapeDimension(c.shape), .radius = c.c * std::sqrt(c.sigma)};
  if (!dense) {  // timed alone, as published: tangents and projections of one fit
    const auto begin = std::chrono::steady_clock::now();
    ASSIGN_OR_RETURN(const auto timed, manifold::YxFitter::Make(samples, dim, params));
    for (int64_t i = 0; i < c.starts; ++i) timed.Project(row(starts, i));
    trial.yx_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  ASSIGN_OR_RETURN(const auto fit, manifold::RichardsonFitter::Make(samples, dim, params, {}));
  std::vector<manifold::RichardsonPoint> points;
  for (int64_t i = 0; i < c.starts; ++i) {
    points.push_back(fit.Project(row(starts, i)));
    trial.extrapolated += points.back().share / static_cast<double>(c.starts);
  }
  trial.yx = Errors(c.shape, c.starts, [&](int64_t i) { return std::span<const double>(points[i].narrow.x); });
  trial.richardson = Errors(c.shape, c.starts, [&](int64_t i) { return std::span<const double>(points[i].x); });
  std::vector<double> moved(starts.size());
  if (dense) return trial;
  ASSIGN_OR_RETURN(const auto open, manifold::RichardsonFitter::Make(samples, dim, params, {.max_shift = 1e9, .max_degrees = 180, .min_samples = 0, .full_step = true}));
  for (int64_t i = 0; i < c.starts; ++i) {
    const std::vector<double> x = open.Project(row(starts, i)).x;
    std::copy(x.begin(), x.end(), moved.begin() + i * dim);
  }
  trial.unguarded = Errors(c.shape, c.starts, [&](int64_t i) { return row(moved, i); });
  for (int64_t i = 0; i < c.starts; ++i) {
    const std::vector<double> mean = fit.narrow().Evaluate(row(starts, i)).mean;
    std::copy(mean.begin(), mean.end(), moved.begin() + i * dim);
  }
  trial.mean = Errors(c.shape, c.starts, [&](int64_t i) { return row(moved, i); });
  manifold::YxParams greedy = params;
  greedy.form = manifold::BiasForm::kCf18;
  ASSIGN_OR_RETURN(const auto cf18, manifold::YxFitter::Make(samples, dim, greedy));
  for (int64_t i = 0; i < c.starts; ++i) {
    const std::vector<double> x = cf18.Project(row(starts, i)).x;
    std::copy(x.begin(), x.end(), moved.begin() + i * dim);
  }
  trial.cf18 = Errors(c.shape, c.starts, [&](int64_t i) { return row(moved, i); });
  const std::vector<double> pulled = manifold::ReleasedContraction(samples, dim, starts, c.sigma);
  trial.ysl23 = Errors(c.shape, c.starts, [&](int64_t i) { return row(pulled, i); });
  return trial;
}

std::string Pair(const ErrorPair& pair) {
  if (pair.average < 0) return "-";
  char text[40];
  std::snprintf(text, sizeof(text), "%.4f / %.4f", pair.average, pair.maximum);
  return text;
}

ErrorPair Mean(const std::vector<Trial>& trials, ErrorPair Trial::*member) {
  ErrorPair mean{0, 0};
  for (const Trial& trial : trials) {
    if ((trial.*member).average < 0) return {};
    mean.average += (trial.*member).average / static_cast<double>(trials.size());
    mean.maximum += (trial.*member).maximum / static_cast<double>(trials.size());
  }
  return mean;
}

}  // namespace

absl::StatusOr<std::vector<SyntheticRow>> RunSynthetic(const SyntheticOptions& options, ThreadPool& pool) {
  std::vector<SyntheticRow> rows;
  const std::span<const Case> cases = options.dense ? std::span<const Case>(kDense) : std::span<const Case>(kPublished);
  const int64_t trials = options.dense ? std::min<int64_t>(options.trials, 3) : options.trials;
  int64_t done = 0;
  for (const Case& c : cases) {
    std::vector<Trial> all(static_cast<size_t>(trials));
    std::vector<absl::Status> failures(static_cast<size_t>(trials));
    std::atomic<int64_t> next{0};
    pool.RunOnAll([&](int) {
      for (int64_t t = next++; t < trials; t = next++) {
        auto trial = RunTrial(c, options.first_seed + static_cast<uint64_t>(t), options.dense);
        if (trial.ok()) all[t] = *std::move(trial);
        else failures[t] = trial.status();
      }
    });
    for (const absl::Status& failure : failures) RETURN_IF_ERROR(failure);
    SyntheticRow row{.shape = manifold::ShapeName(c.shape), .samples = c.samples, .starts = c.starts, .trials = trials, .sigma = c.sigma,
                     .radius = c.c * std::sqrt(c.sigma)};
    row.start = Mean(all, &Trial::start);
    row.noisy = Mean(all, &Trial::noisy);
    row.yx = Mean(all, &Trial::yx);
    row.richardson = Mean(all, &Trial::richardson);
    row.unguarded = Mean(all, &Trial::unguarded);
    row.cf18 = Mean(all, &Trial::cf18);
    row.mean = Mean(all, &Trial::mean);
    row.ysl23 = Mean(all, &Trial::ysl23);
    row.authors_yx = c.yx;
    row.authors_cf18 = c.cf18;
    row.prototype_yx = c.prototype;
    std::vector<double> seconds;
    double squares = 0;
    row.gain = 1 - row.richardson.average / row.yx.average;
    for (const Trial& trial : all) {
      row.extrapolated += trial.extrapolated / static_cast<double>(trials);
      seconds.push_back(trial.yx_seconds);
      squares += std::pow(1 - trial.richardson.average / trial.yx.average - row.gain, 2);
    }
    row.gain_error = std::sqrt(squares / std::max<double>(1, static_cast<double>(trials * (trials - 1))));
    std::nth_element(seconds.begin(), seconds.begin() + trials / 2, seconds.end());
    row.yx_seconds = seconds[trials / 2];
    rows.push_back(row);
    if (options.progress) options.progress(++done, static_cast<int64_t>(cases.size()));
  }
  if (!options.plots.empty()) {
    RETURN_IF_ERROR(FileSystem::Posix().CreateDirectories(options.plots));
    for (size_t i = 0; i < rows.size(); ++i) {
      if (i > 0 && rows[i].shape == rows[i - 1].shape && rows[i].samples == rows[i - 1].samples) continue;
      const std::string path = internal::Concat(options.plots, "/", rows[i].shape, "-", rows[i].samples, ".svg");
      RETURN_IF_ERROR(WriteFileAtomically(FileSystem::Posix(), path, SyntheticPlot(rows, rows[i].shape, rows[i].samples)));
    }
  }
  return rows;
}

std::string SyntheticTable(const std::vector<SyntheticRow>& rows) {
  std::string out = "data\tsigma\tr\tstart points\tnoisy samples\tauthors' yx\tspecified prototype\tyx\tguarded Richardson\tgain +- error\tmaximum\t"
                    "mean share\tunguarded\tcf18\tauthors' cf18\tmean mu(x)\tysl23 released\tyx s a trial\n";
  for (const SyntheticRow& row : rows) {
    char text[160];
    std::snprintf(text, sizeof(text), "%+.1f %% +- %.1f\t%+.1f %%\t%.0f %%", 100 * row.gain, 100 * row.gain_error,
                  100 * (row.richardson.maximum / row.yx.maximum - 1), 100 * row.extrapolated);
    char head[64], seconds[32];
    std::snprintf(head, sizeof(head), "%s %lld\t%.2f\t%.3f", row.shape.c_str(), static_cast<long long>(row.samples), row.sigma, row.radius);
    std::snprintf(seconds, sizeof(seconds), "%.3f", row.yx_seconds);
    out += std::string(head) + "\t" + Pair(row.start) + "\t" + Pair(row.noisy) + "\t" + Pair(row.authors_yx) + "\t" + Pair(row.prototype_yx) + "\t" +
           Pair(row.yx) + "\t" + Pair(row.richardson) + "\t" + text + "\t" + Pair(row.unguarded) + "\t" + Pair(row.cf18) + "\t" +
           Pair(row.authors_cf18) + "\t" + Pair(row.mean) + "\t" + Pair(row.ysl23) + "\t" + seconds + "\n";
  }
  return out;
}

Json SyntheticJson(const SyntheticRow& row) {
  const auto pair = [](const ErrorPair& p) { return p.average < 0 ? Json(nullptr) : Json{{"average", p.average}, {"maximum", p.maximum}}; };
  return {{"shape", row.shape}, {"samples", row.samples}, {"starts", row.starts}, {"trials", row.trials}, {"sigma", row.sigma}, {"radius", row.radius},
          {"start", pair(row.start)}, {"noisy", pair(row.noisy)}, {"yx", pair(row.yx)}, {"richardson", pair(row.richardson)},
          {"unguarded", pair(row.unguarded)}, {"cf18", pair(row.cf18)}, {"mean", pair(row.mean)}, {"ysl23", pair(row.ysl23)},
          {"authors_yx", pair(row.authors_yx)}, {"authors_cf18", pair(row.authors_cf18)}, {"prototype_yx", pair(row.prototype_yx)},
          {"extrapolated", row.extrapolated}, {"gain", row.gain}, {"gain_error", row.gain_error}, {"yx_seconds", row.yx_seconds}};
}

std::string SyntheticPlot(const std::vector<SyntheticRow>& rows, const std::string& shape, int64_t samples) {
  struct Line { const char* name; const char* color; const ErrorPair SyntheticRow::*member; };
  constexpr Line kLines[] = {{"noisy samples", "#999999", &SyntheticRow::noisy}, {"authors' yx", "#000000", &SyntheticRow::authors_yx},
                             {"yx", "#1f5fa8", &SyntheticRow::yx}, {"guarded Richardson", "#c0392b", &SyntheticRow::richardson},
                             {"cf18", "#2e8b57", &SyntheticRow::cf18}, {"ysl23", "#b8860b", &SyntheticRow::ysl23}};
  constexpr double kWidth = 640, kHeight = 400, kLeft = 70, kRight = 180, kTop = 40, kBottom = 50;
  double top = 0, right = 0;
  for (const SyntheticRow& row : rows) {
    if (row.shape != shape || row.samples != samples) continue;
    right = std::max(right, row.sigma);
    for (const Line& line : kLines) top = std::max(top, (row.*line.member).average);
  }
  const auto x = [&](double sigma) { return kLeft + (kWidth - kLeft - kRight) * sigma / right; };
  const auto y = [&](double error) { return kHeight - kBottom - (kHeight - kTop - kBottom) * error / top; };
  char text[320];
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 400\" font-family=\"sans-serif\" font-size=\"12\">\n"
                    "<rect width=\"640\" height=\"400\" fill=\"white\"/>\n";
  std::snprintf(text, sizeof(text), "<text x=\"%g\" y=\"24\" font-size=\"14\">%s, %lld samples: average distance to the truth by noise</text>\n", kLeft, shape.c_str(),
                static_cast<long long>(samples));
  out += text;
  for (int tick = 0; tick <= 4; ++tick) {
    const double error = top * tick / 4;
    std::snprintf(text, sizeof(text), "<line x1=\"%g\" x2=\"%g\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#dddddd\"/><text x=\"8\" y=\"%.1f\">%.4f</text>\n", kLeft, kWidth - kRight,
                  y(error), y(error), y(error) + 4, error);
    out += text;
  }
  double legend = kTop + 10;
  for (const Line& line : kLines) {
    std::string points, dots;
    for (const SyntheticRow& row : rows) {
      const ErrorPair& pair = row.*line.member;
      if (row.shape != shape || row.samples != samples || pair.average < 0) continue;
      std::snprintf(text, sizeof(text), "%.1f,%.1f ", x(row.sigma), y(pair.average));
      points += text;
      std::snprintf(text, sizeof(text), "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>", x(row.sigma), y(pair.average), line.color);
      dots += text;
    }
    if (points.empty()) continue;
    out += "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" + std::string(line.color) + "\" points=\"" + points + "\"/>" + dots + "\n";
    std::snprintf(text, sizeof(text), "<text x=\"%g\" y=\"%g\" fill=\"%s\">%s</text>\n", kWidth - kRight + 12, legend, line.color, line.name);
    out += text;
    legend += 18;
  }
  for (const SyntheticRow& row : rows) {
    if (row.shape != shape || row.samples != samples) continue;
    std::snprintf(text, sizeof(text), "<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%.2f</text>\n", x(row.sigma), kHeight - kBottom + 18, row.sigma);
    out += text;
  }
  return out + "</svg>\n";
}

}  // namespace lectern::eval
