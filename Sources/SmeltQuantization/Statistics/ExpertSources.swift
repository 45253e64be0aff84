// Where the statistics of each expert come from: Formats/statistics.md, section 3.

internal import SmeltModels
package import SmeltStorage
internal import SmeltTensors

/// What a calibration had for one expert.
package struct ExpertSource: Sendable, Equatable {
  /// Where an expert's statistics come from.
  package enum Kind: Int, Sendable, CaseIterable {
    /// Enough tokens of the text that was asked for.
    case own = 0
    /// Enough tokens once more of the text ran.
    case toppedUp = 1
    /// Tokens that nearly went to it were run through it.
    case replayed = 2
    /// Activation ranges are the largest of its peers; scales come from the weights alone.
    case peers = 3
    /// Scales come from the weights alone.
    case weightsAlone = 4

    /// The kind in words, for tables and JSON.
    package var words: String {
      switch self {
      case .own: "own tokens"
      case .toppedUp: "topped up"
      case .replayed: "replayed"
      case .peers: "peers' ranges"
      case .weightsAlone: "weights alone"
      }
    }
  }

  /// Tokens of the text that was asked for.
  package var own: Int
  /// Tokens of the text that was added.
  package var toppedUp: Int
  /// Tokens that the router sent elsewhere.
  package var replayed: Int
  /// Where the statistics come from.
  package var kind: Kind

  /// A source.
  package init(own: Int, toppedUp: Int = 0, replayed: Int = 0, kind: Kind) {
    self.own = own
    self.toppedUp = toppedUp
    self.replayed = replayed
    self.kind = kind
  }

  /// What the ledger says of it; nil for an expert with enough tokens.
  var note: String? {
    let routed = own + toppedUp
    switch kind {
    case .own: return nil
    case .toppedUp: return "calibration topped up: \(own) tokens, and \(toppedUp) of more text"
    case .replayed: return "calibration by replay: \(routed) tokens, and \(replayed) that nearly went to it"
    case .peers:
      return "weights alone, activation range of its peers: \(routed) calibration tokens reached it"
    case .weightsAlone:
      return routed == 0
        ? QuantizeDecision.unreached : "weights alone: only \(routed) calibration tokens reached it"
    }
  }
}

/// Where the statistics of a layer's experts come from.
package struct ExpertSources: Sendable, Equatable {
  /// The layer.
  package let layer: Int
  /// One an expert.
  package let experts: [ExpertSource]

  /// The sources of a layer.
  package init(layer: Int, experts: [ExpertSource]) {
    self.layer = layer
    self.experts = experts
  }

  /// The name of a layer's tensor: `blk.7.ffn_exps.source`.
  package static func tensorName(_ layer: Int) -> String { "blk.\(layer).ffn_exps.source" }

  /// I64 [experts, 4]: own, topped up, replayed, kind.
  package var tensor: StatisticsTensor {
    StatisticsTensor(
      name: ExpertSources.tensorName(layer), dtype: .i64, shape: [experts.count, 4],
      bytes: littleEndian(experts.flatMap { [$0.own, $0.toppedUp, $0.replayed, $0.kind.rawValue] }))
  }

  /// The layer of a tensor's name, or nil when it is no such name.
  static func layer(ofTensor name: String) -> Int? {
    guard name.hasPrefix("blk."), name.hasSuffix(".ffn_exps.source"),
      let layer = Int(name.dropFirst(4).dropLast(".ffn_exps.source".count)), layer >= 0,
      tensorName(layer) == name
    else { return nil }
    return layer
  }
}

extension Statistics {
  /// Where the statistics of a layer's experts come from, or nil when the file does not say.
  /// - Throws: `STAT_FORMAT`.
  package func expertSources(layer: Int) throws(FormatError) -> ExpertSources? {
    guard let tensor = tensor(ExpertSources.tensorName(layer)) else { return nil }
    let values = try counts(tensor)
    var experts: [ExpertSource] = []
    for expert in 0..<tensor.shape.rows {
      let row = values[expert * 4..<expert * 4 + 4]
      guard let kind = ExpertSource.Kind(rawValue: row[row.startIndex + 3]) else {
        throw FormatError(
          .statistics, file: file, subject: tensor.name,
          "kind \(row[row.startIndex + 3]) of expert \(expert) is unknown, expected 0 to 4")
      }
      experts.append(
        ExpertSource(
          own: row[row.startIndex], toppedUp: row[row.startIndex + 1], replayed: row[row.startIndex + 2],
          kind: kind))
    }
    return ExpertSources(layer: layer, experts: experts)
  }

  /// Where the statistics of an expert's weight come from, or nil when the file does not say or it is no expert's.
  /// - Throws: `STAT_FORMAT`.
  func source(of weight: WeightName) throws(FormatError) -> ExpertSource? {
    guard let expert = weight.expert, weight.base.hasPrefix("blk."),
      let layer = Int(weight.base.dropFirst(4).prefix { $0 != "." }),
      let tensor = tensor(ExpertSources.tensorName(layer)), expert < tensor.shape.rows
    else { return nil }
    return try expertSources(layer: layer)?.experts[expert]
  }
}
