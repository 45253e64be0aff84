// The report as one self-contained page: no scripts, no links, nothing fetched.

import SmeltContainers
import SmeltStorage

extension Report {
  /// What a forward pass tells.
  private var agreement: [[String]] {
    [
      ["perplexity, source", fixed(perplexity.source, 4)],
      ["perplexity, result", fixed(perplexity.result, 4)],
      ["KL mean (nats a token)", scientific(kl.mean)], ["KL median", scientific(kl.median)],
      ["KL 99th percentile", scientific(kl.p99)], ["KL largest", scientific(kl.max)],
      ["KL floor (rounding alone\(sampleText))", scientific(kl.floor)],
    ]
      + (router.isEmpty
        ? [] : [["KL on the source's expert choices\(sampleText)", scientific(kl.forcedRoutingMean)]]) + [
        ["top-1 agreement", fixed(top1, 4)], ["top-5 agreement", fixed(top5, 4)],
      ]
  }

  /// The page.
  package var html: String {
    var page = HTML.head("smelt verify", verb: "verify") + "<h1>Parity report</h1>\n"
    page += "<p class=\"\(verdict.style)\"><strong>verdict: \(verdict.rawValue)</strong></p>\n"
    page += HTML.table(
      ["criterion", "found and demanded", "met"],
      criteria.map { [$0.key, $0.text, $0.isMet ? "yes" : "no"] })
    if let profile = thresholds.profile { page += "<p>profile \(HTML.escape(profile.rawValue))</p>\n" }
    if !faults.isEmpty {
      page += "<h2>Faults</h2>\n"
      page += HTML.table(
        ["about", "what", "found"], faults.map { [$0.kind.rawValue, $0.subject, $0.problem] })
    }
    if !differences.isEmpty {
      page += "<h2>Differences of configuration and tokenizer</h2>\n"
      page += HTML.table(
        ["key", "source", "result", "changes numbers"],
        differences.map {
          [
            $0.key, excerpt($0.source, limit: 160), excerpt($0.result, limit: 160),
            $0.changesNumbers ? "yes" : "no",
          ]
        })
    }
    page += HTML.table(
      ["", "path", "container", "bytes", "content hash"],
      sides.map { side in
        [
          side.key, side.json["path"]?.string ?? "", side.json["container"]?.string ?? "",
          byteText(side.json["bytes"]?.integer ?? 0), side.json["content_hash"]?.string ?? "–",
        ]
      })
    page += HTML.table(
      ["measure", "value"],
      [
        ["tokens (windows of \(context))", grouped(tokens)]
      ]
        + (notRun.map { [["forward pass", "not run: \($0)"]] } ?? agreement) + [
          ["exact weights", "\(exactWeights) of \(weights.count)"]
        ]
        + (draftWeights > 0
          ? [["weights of drafts (MTP), compared and not run", grouped(draftWeights)]] : [])
        + missing.map { ["left out of the result", $0.text] })
    if let activations {
      page += "<h2>With activations rounded to \(HTML.escape(activations.rounding))</h2>\n"
      page += HTML.table(
        ["measure", "weights alone", "weights and activations"],
        [
          ["weights that meet rounded activations", "–", grouped(activations.roundedWeights)],
          ["perplexity", fixed(perplexity.result, 4), fixed(activations.perplexity, 4)],
          ["KL mean", scientific(kl.mean), scientific(activations.kl.mean)],
          ["KL median", scientific(kl.median), scientific(activations.kl.median)],
          ["KL 99th percentile", scientific(kl.p99), scientific(activations.kl.p99)],
          ["KL largest", scientific(kl.max), scientific(activations.kl.max)],
          ["top-1 agreement", fixed(top1, 4), fixed(activations.top1, 4)],
          ["top-5 agreement", fixed(top5, 4), fixed(activations.top5, 4)],
        ])
    }
    if let engine {
      page += "<h2>As \(HTML.escape(engine.title)) computes it</h2>\n"
      page += HTML.table(["measure", "value", "meaning"], engine.rows)
    }
    let widest = max(layers.map(\.relativeError).max() ?? 0, 1e-300)
    page +=
      "<h2>Layers</h2>\n<table><tr><th>layer</th><th>relative error</th><th>cosine</th><th>router sets</th><th></th></tr>\n"
    for layer in layers {
      let agreement = router.first { $0.layer == layer.layer }
      page +=
        "<tr><td>\(layer.layer)</td><td>\(scientific(layer.relativeError))</td><td>\(fixed(layer.cosine, 6))</td>"
        + "<td>\(agreement.map { fixed($0.setAgreement, 4) } ?? "–")</td>"
        + "<td style=\"text-align:left\"><span class=\"bar\" style=\"width:\(fixed(12 * layer.relativeError / widest, 2))rem\"></span></td></tr>\n"
    }
    page += "</table>\n<h2>Weights</h2>\n"
    page += HTML.table(
      ["weight", "encoding", "relative error", "largest error", "cosine", "found"],
      weights.map {
        [
          $0.name, $0.scheme, scientific($0.relativeError), scientific($0.maxAbsError), fixed($0.cosine, 8),
          $0.state.rawValue,
        ]
      })
    return page + "</body></html>\n"
  }
}

/// Text made safe for a page.
enum HTML {
  /// The beginning of a page, up to its body.
  /// - Parameter verb: the command that writes it, by which `--overwrite` knows its own pages.
  static func head(_ title: String, verb: String) -> String {
    """
    <!doctype html>
    <html lang="en"><head><meta charset="utf-8">\(OutputKind.pageMark)\(smeltVersion) \(verb)"><title>\(escape(title))</title><style>
    body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
    table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
    th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
    th:first-child, td:first-child { text-align: left }
    svg { max-width: 100%; height: auto }
    .pass { color: #06703a } .fail { color: #b00020 } .open { color: #555 }
    .bar { background: #4a7fb5; height: .7rem; display: inline-block }
    </style></head><body>

    """
  }

  static func escape(_ text: String) -> String {
    var out = ""
    for character in printable(text) {
      switch character {
      case "&": out += "&amp;"
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "\"": out += "&quot;"
      default: out.append(character)
      }
    }
    return out
  }

  static func table(_ header: [String], _ rows: [[String]]) -> String {
    func row(_ cells: [String], _ tag: String) -> String {
      "<tr>" + cells.map { "<\(tag)>\(escape($0))</\(tag)>" }.joined() + "</tr>\n"
    }
    return "<table>\n" + row(header, "th") + rows.map { row($0, "td") }.joined() + "</table>\n"
  }
}
