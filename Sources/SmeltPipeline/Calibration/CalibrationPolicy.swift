// What calibration does about experts that the text starves, and what each of them got.

import SmeltModels
import SmeltQuantization
import SmeltStorage

/// What becomes of experts that too few tokens reached.
package struct CalibrationPolicy: Sendable {
  /// The choices.
  package enum Kind: String, Sendable, CaseIterable {
    /// Run more of the text where it reaches them, then run through them the tokens that came nearest.
    case topUp = "top-up"
    /// Take their scales from their weights alone.
    case weightOnly = "weight-only"
    /// Take their activation ranges from their peers and their scales from their weights alone.
    case peerMax = "peer-max"
    /// Refuse.
    case refuse
  }

  /// Enough for a mean square with a standard error of about a quarter, where activations are normal: √(2 / 32).
  package static let usualTokens = 32

  /// The choice.
  package var kind: Kind
  /// Tokens below which an expert is starved; 0 for none.
  package var minTokens: Int

  /// A policy.
  package init(_ kind: Kind = .topUp, minTokens: Int = usualTokens) {
    self.kind = kind
    self.minTokens = minTokens
  }
}

extension CalibrationPolicy {
  /// What a statistics file says of it.
  func notes(added: Int) -> [(key: String, value: String)] {
    [
      ("policy", kind.rawValue), ("min_tokens", String(minTokens)), ("topped_up_windows", String(added)),
    ]
  }

  /// What each expert of a layer got.
  /// - Parameters:
  ///   - counts: tokens that the router sent.
  ///   - drawn: those of them of the windows that were asked for.
  ///   - replayed: tokens that were run through an expert besides.
  func sources(_ counts: ExpertTokens, drawn: [Int], replayed: [Int]) -> ExpertSources {
    ExpertSources(
      layer: counts.layer,
      experts: counts.counts.enumerated().map { expert, routed in
        let own = drawn[expert]
        let source: ExpertSource.Kind =
          if own >= minTokens {
            .own
          } else if routed >= minTokens {
            .toppedUp
          } else {
            switch kind {
            case .topUp: replayed[expert] > 0 ? .replayed : .weightsAlone
            case .peerMax: .peers
            case .weightOnly, .refuse: .weightsAlone
            }
          }
        return ExpertSource(own: own, toppedUp: routed - own, replayed: replayed[expert], kind: source)
      })
  }

  /// The entries of a layer, with the activation ranges of its peers for those experts whose source says so.
  func finished(_ entries: [StatisticsEntry], _ sources: ExpertSources?) -> [StatisticsEntry] {
    guard kind == .peerMax, let sources else { return entries }
    var ranges: [String: [Float]] = [:]
    for entry in entries where entry.weight.expert != nil {
      guard let absmax = entry.absmax else { continue }
      let widest = ranges[entry.weight.base] ?? absmax
      ranges[entry.weight.base] = zip(widest, absmax).map(Swift.max)
    }
    return entries.map { entry in
      guard let expert = entry.weight.expert, sources.experts[expert].kind == .peers,
        let range = ranges[entry.weight.base]
      else { return entry }
      return StatisticsEntry(
        entry.weight, groups: entry.groups, columns: entry.columns, absmax: range,
        meanSquare: entry.meanSquare, counts: entry.counts)
    }
  }

  /// Refuses starved experts where the policy is to.
  /// - Throws: `CAL_STARVED`.
  func check(_ sources: [ExpertSources], file: String?) throws(FormatError) {
    let starved = Starved(sources)
    guard kind == .refuse, !starved.experts.isEmpty else { return }
    throw starved.refusal(minTokens: minTokens, file: file)
  }
}

/// The experts that calibration found starved, and what they got.
struct Starved: Sendable {
  /// One of them.
  struct Expert: Sendable {
    let layer: Int
    let expert: Int
    let source: ExpertSource
  }

  /// Layer by layer, experts in ascending order.
  let experts: [Expert]

  init(_ layers: [ExpertSources]) {
    experts = layers.flatMap { layer in
      layer.experts.enumerated().filter { $0.element.kind != .own }.map {
        Expert(layer: layer.layer, expert: $0.offset, source: $0.element)
      }
    }
  }

  var json: JSON {
    JSON(
      experts.map {
        [
          "layer": JSON($0.layer), "expert": JSON($0.expert), "own_tokens": JSON($0.source.own),
          "topped_up_tokens": JSON($0.source.toppedUp), "replayed_tokens": JSON($0.source.replayed),
          "source": JSON($0.source.kind.words),
        ]
      })
  }

  /// A line a layer and kind: `layer 3, replayed: 0–2, 7`.
  var lines: [String] {
    var places: [String: Int] = [:]
    var groups: [(title: String, experts: [Int])] = []
    for expert in experts {
      let title = "layer \(expert.layer), \(expert.source.kind.words)"
      if let place = places[title] {
        groups[place].experts.append(expert.expert)
      } else {
        places[title] = groups.count
        groups.append((title, [expert.expert]))
      }
    }
    return groups.map { "\($0.title): \(Starved.ranges($0.experts))" }
  }

  /// The refusal that names all of them.
  func refusal(minTokens: Int, file: String?) -> FormatError {
    var layers: [(layer: Int, experts: [Int])] = []
    for expert in experts {
      if layers.last?.layer != expert.layer { layers.append((expert.layer, [])) }
      layers[layers.count - 1].experts.append(expert.expert)
    }
    let names = layers.map { "layer \($0.layer): \(Starved.ranges($0.experts))" }.joined(separator: "; ")
    return FormatError(
      .starvedExperts, file: file,
      "\(experts.count) experts got fewer than \(minTokens) tokens: \(names)")
  }

  /// Ascending numbers, runs of three and more as `first–last`.
  static func ranges(_ numbers: [Int]) -> String {
    var runs: [ClosedRange<Int>] = []
    for number in numbers {
      if let last = runs.last, last.upperBound + 1 == number {
        runs[runs.count - 1] = last.lowerBound...number
      } else {
        runs.append(number...number)
      }
    }
    return runs.map { run in
      run.count == 1
        ? "\(run.lowerBound)"
        : run.count == 2 ? "\(run.lowerBound), \(run.upperBound)" : "\(run.lowerBound)–\(run.upperBound)"
    }.joined(separator: ", ")
  }
}
