// `check --for ENGINE`: what an engine's loader makes of a model, from its headers and the few numbers that engines compare.

import SmeltModels
package import SmeltStorage

/// What an engine would make of a model.
package struct EngineCheck: Sendable {
  /// The engine.
  package let engine: Engine
  /// Its version.
  package let version: String
  /// Devices that share each matrix.
  package let shards: Int
  /// The model's path.
  package let path: String
  /// What rules found, the worst first.
  package let findings: [EngineFinding]
  /// What becomes of each tensor; empty where the engine does not read the container.
  package let fates: [EngineFate]

  /// The worst of the findings; nil without one.
  package var outcome: EngineOutcome? { findings.map(\.rule.outcome).max() }

  /// `loads`, `differs` or `refuses`.
  package var verdict: String {
    switch outcome {
    case .refuses?: "refuses"
    case .differs?: "differs"
    case .notes?, nil: "loads"
    }
  }

  /// The exit status: 0 loads, 1 computes something else (or, strictly, something is worth knowing), 3 does
  /// not load.
  package func exitStatus(isStrict: Bool) -> Int32 {
    switch outcome {
    case .refuses?: 3
    case .differs?: 1
    case .notes?: isStrict ? 1 : 0
    case nil: 0
    }
  }

  /// For machines.
  package var json: JSON {
    [
      "schema": "smelt.engine-check/1", "model": JSON(path), "engine": JSON(engine.rawValue),
      "version": JSON(version), "rules_read_from": JSON(engine.readVersion), "tensor_parallel": JSON(shards),
      "verdict": JSON(verdict), "findings": JSON(findings.map(\.json)),
      "tensors": JSON(fates.map(\.json)),
    ]
  }

  /// The verdict in a line.
  private var headline: String {
    let devices = shards > 1 ? ", \(shards) devices" : ""
    let does =
      switch outcome {
      case .refuses?: "does not load it"
      case .differs?: "loads it and computes something else"
      case .notes?, nil: "loads it and computes what its files say"
      }
    let isRead = version == engine.readVersion || version == "v" + engine.readVersion
    return isRead
      ? "\(engine.title) \(version)\(devices) \(does)"
      : "\(engine.title) \(version) was not read; by the rules of \(engine.readVersion)\(devices) it \(does)"
  }

  /// For people, in 80 columns.
  package var text: String {
    var lines = wrapped(headline)
    for finding in findings {
      let rule = finding.rule
      let own = rule.condition.speaksByCase
      let says = own ? finding.cases.first?.found ?? rule.says : rule.says
      lines += [""] + wrapped("\(rule.outcome.rawValue): \(engine.title) \(says) [\(rule.name)]")
      for found in finding.cases.prefix(EngineCheck.most).dropFirst(own ? 1 : 0) {
        lines += wrapped(own ? found.found : "'\(found.subject)' \(found.found)", indent: 2)
      }
      if finding.cases.count > EngineCheck.most {
        lines.append("  and \(grouped(finding.cases.count - EngineCheck.most)) more")
      }
      lines += wrapped("source: \(rule.source)", indent: 2)
      if let help = rule.help { lines += wrapped("help: \(help)", indent: 2) }
    }
    guard !fates.isEmpty else { return lines.joined(separator: "\n") }
    var table = Table([
      outcome == .refuses ? "what would become of its tensors" : "tensors", "count", "bytes",
    ])
    for action in EngineFate.Action.allCases {
      let own = fates.filter { $0.action == action }
      guard !own.isEmpty else { continue }
      table.add([action.rawValue, grouped(own.count), byteText(own.reduce(0) { $0 + $1.bytes })])
    }
    return (lines + ["", table.text]).joined(separator: "\n")
  }

  /// Cases that people see of a finding.
  private static let most = 4
}

/// Lines of at most 80 columns, wherever they go.
private func wrapped(_ text: String, indent: Int = 0) -> [String] {
  wrapped(String(repeating: " ", count: indent) + text, 80)
}

/// What an engine would make of a model.
/// - Parameters:
///   - version: another than the one whose sources were read.
///   - shards: devices that share each matrix (tensor parallelism).
/// - Throws: refusals of the model's content.
package func checkEngine(
  _ model: Model, for engine: Engine, version: String? = nil, shards: Int = 1
) throws -> EngineCheck {
  let view = try EngineView(model, engine, version: version, shards: shards)
  let rules = EngineRules.of(engine)
  let found = view.found()
  func findings(_ rules: some Sequence<EngineRule>) throws -> [EngineFinding] {
    try rules.compactMap { rule in
      let cases = try rule.cases(view, found)
      return cases.isEmpty ? nil : EngineFinding(rule: rule, cases: cases)
    }
  }
  // What lies in a container that the engine does not read has no other faults.
  let place = try findings(rules.filter { if case .container = $0.condition { true } else { false } })
  let all = place.isEmpty ? try findings(rules) : place
  let ordered = EngineOutcome.allCases.reversed().flatMap { outcome in
    all.filter { $0.rule.outcome == outcome }
  }
  return EngineCheck(
    engine: engine, version: view.version, shards: shards, path: model.path, findings: ordered,
    fates: place.isEmpty ? view.fates() : [])
}
