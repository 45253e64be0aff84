// Where statistics go as they are learned.

import SmeltContainers
import SmeltQuantization
import SmeltStorage

/// Where statistics go as they are learned: entries and counts of one section of the layout after the other.
protocol StatisticsSink: ~Copyable {
  /// Takes a section: an entry for each of its weights, in order, what its layer keeps of its tokens, and the tokens and sources of
  /// its experts, if any.
  mutating func write(_ layer: LearnedLayer) throws
  /// Everything was written.
  consuming func commit() throws
}

/// A statistics file of our own.
struct SafetensorsSink: StatisticsSink, ~Copyable {
  private var writer: SafetensorsWriter
  private let form: StatisticsForm

  init(
    path: String, _ layout: StatisticsLayout, _ statistics: Statistics, _ replacement: Replacement
  ) throws {
    form = statistics.form
    writer = try SafetensorsWriter(
      path: path, tensors: layout.declarations(form),
      metadata: statistics.metadata.map { ($0.key, $0.value) }, replacing: replacement)
  }

  mutating func write(_ layer: LearnedLayer) throws {
    for entry in layer.entries {
      for tensor in entry.tensors(form) { try writer.write(tensor.name, tensor.bytes) }
    }
    for tensor in [layer.cache?.tensor, layer.tokens?.tensor, layer.sources?.tensor].compactMap({ $0 }) {
      try writer.write(tensor.name, tensor.bytes)
    }
  }

  consuming func commit() throws { try writer.commit() }
}

/// What a calibration recorded beside the statistics.
struct Learned {
  var tokens: [ExpertTokens] = []
  var sources: [ExpertSources] = []
  var spilledBytes = 0

  /// Takes a layer, and hands it on.
  mutating func add<Sink: StatisticsSink & ~Copyable>(_ layer: LearnedLayer, _ sink: inout Sink) throws {
    try sink.write(layer)
    tokens += [layer.tokens].compactMap { $0 }
    sources += [layer.sources].compactMap { $0 }
  }
}
