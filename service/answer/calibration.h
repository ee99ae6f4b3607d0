// service/answer/calibration.h: the fitted numbers of the answerer, and nothing else.
//
//   double rank = RankScore(features, /*asked=*/true);    // higher is better, among one question's candidates
//   double trust = TrustProbability(features);                    // chance that the answer is right, of 1
//   bool abstain = trust < kDefaultTrust;
//
// Shapes:  the order of kRankNames and kTrustNames in evidence.h.
// Threads: pure functions over constants.
// Errors:  none.
// Cost:    a dozen multiplications.
//
// How they were fitted: scripts/fit_calibrator.py over `lectern eval answers`. Ranks: questions drawn from SQuAD v1.1
// train. Trust: SQuAD v2.0 dev, the articles whose title has an even CRC-32; reported on the other half. The threshold: the curve of
// `eval answers --predictions bench/results/squad2_span_answers.jsonl --rejudge --half 0 --curve FILE`.
#pragma once

#include "service/answer/evidence.h"

namespace lectern::service::answer {

// Answers below this chance are abstained from: the value at which 90 % of the right answers of the fitted half stay.
extern const double kDefaultTrust;

// Do the weights use what the reader says when it is asked outright (features "refusal" and "yes")? If not, it need not be asked.
bool AsksOutright();

double RankScore(const RankFeatures& features, bool asked);
double TrustProbability(const TrustFeatures& features);

}  // namespace lectern::service::answer
