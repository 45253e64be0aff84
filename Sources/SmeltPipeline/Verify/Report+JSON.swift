// The JSON contract of `verify`, schema smelt.verify/3. Formats/report.md, section 3.

internal import SmeltModels
package import SmeltStorage

extension Report {
  /// The contract's JSON.
  package var json: JSON {
    JSON(
      members: [("schema", "smelt.verify/3")] + making.members + sides.map { ($0.key, $0.json) } + [
        ("tokens", JSON(tokens)), ("context", JSON(context)), ("tokenization", JSON(tokenization.rawValue)),
        (
          "perplexity",
          [
            "source": ran(perplexity.source), "result": ran(perplexity.result),
            "interval": [
              "source": Interval.json(intervals?.source), "result": Interval.json(intervals?.result),
              "ratio": Interval.json(intervals?.ratio),
            ],
          ]
        ),
        (
          "kl",
          [
            "mean": ran(kl.mean), "median": ran(kl.median), "p99": ran(kl.p99), "max": ran(kl.max),
            "floor": ran(kl.floor), "forced_routing_mean": ran(kl.forcedRoutingMean),
            "sample_mean": ran(kl.sampleMean), "sample_tokens": JSON(kl.sampleTokens),
            "interval": Interval.json(intervals?.kl), "interval_windows": JSON(intervals?.windows ?? 0),
            "quantiles": JSON(quantiles.map { ["share": JSON($0.share), "value": JSON($0.value)] }),
          ]
        ),
        ("top1_agreement", ran(top1)), ("top5_agreement", ran(top5)),
        (
          "router",
          JSON(
            router.map {
              [
                "layer": JSON($0.layer), "set_agreement": JSON($0.setAgreement),
                "mean_overlap": JSON($0.meanOverlap), "tokens": JSON($0.chosen.map { JSON($0) }),
                "missed": JSON($0.missed.map { JSON($0) }),
              ]
            })
        ),
        (
          "layers",
          JSON(
            layers.map {
              ["layer": JSON($0.layer), "relative_error": JSON($0.relativeError), "cosine": JSON($0.cosine)]
            })
        ),
        (
          "weights",
          JSON(
            weights.map {
              [
                "name": JSON($0.name), "scheme": JSON($0.scheme), "relative_error": JSON($0.relativeError),
                "max_abs_error": JSON($0.maxAbsError), "cosine": JSON($0.cosine),
                "state": JSON($0.state.rawValue), "clipped": JSON($0.clipped),
                "role": JSON($0.role.rawValue), "source_bytes": JSON($0.sourceBytes),
                "result_bytes": JSON($0.resultBytes),
              ]
            })
        ),
        ("roles", JSON(roles.map(\.json))), ("experts", JSON(experts.map(\.json))),
        ("bits_per_weight", ["source": JSON(bitsPerWeight.source), "result": JSON(bitsPerWeight.result)]),
        ("texts", JSON(texts.map(\.json))), ("largest", JSON(largest.map(\.json))),
        ("exact_weights", JSON(exactWeights)), ("mtp_weights", JSON(draftWeights)),
        ("mtp", JSON(drafts.map(\.json))),
        ("not_run", JSON(notRun)),
      ] + (activations.map { [("activations", $0.json)] } ?? [])
        + (engine.map { [("engine", $0.json)] } ?? []) + [
          ("differences", JSON(differences.map(\.json))), ("faults", JSON(faults.map(\.json))),
          ("resources", resources.json),
          (
            "thresholds",
            [
              "profile": JSON(thresholds.profile?.rawValue), "max_kl": number(thresholds.maxKL),
              "max_kl_p99": number(thresholds.maxP99), "min_top1": number(thresholds.minTop1),
              "min_router": number(thresholds.minRouter),
              "max_weight_error": number(thresholds.maxWeightError),
            ]
          ), ("criteria", JSON(criteria.map(\.json))), ("verdict", JSON(verdict.rawValue)),
        ])
  }

  /// A number that only a forward pass gives.
  private func ran(_ value: Double) -> JSON { notRun == nil ? JSON(value) : JSON(.null) }

  private func number(_ value: Double?) -> JSON { value.map { JSON($0) } ?? JSON(.null) }
}
