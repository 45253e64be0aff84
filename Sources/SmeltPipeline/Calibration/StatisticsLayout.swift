// Which tensors a statistics file has. Formats/statistics.md.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Which statistics a model has, in file order: layer by layer, then what lies outside the layers.
struct StatisticsLayout {
  /// A layer, or what lies outside the layers.
  struct Section {
    let layer: Int?
    let specs: [WeightSpec]
    /// Routed experts; 0 for a section without.
    let experts: Int

    /// An entry for each weight; weights that no token reached get one that says so.
    func entries(_ found: [StatisticsEntry]) -> [StatisticsEntry] {
      let found = Dictionary(uniqueKeysWithValues: found.map { ($0.weight, $0) })
      return specs.map {
        found[$0.name]
          ?? StatisticsEntry(unreached: $0.name, groups: $0.inputGroups, columns: $0.shape.columns)
      }
    }

    /// The range of what the section's layer keeps of its tokens; nil outside the layers.
    func cache(_ found: CacheRange?) -> CacheRange? {
      layer.map { found ?? CacheRange(layer: $0) }
    }

    /// The tokens of the section's experts; nil when it has none.
    func tokens(_ found: ExpertTokens?) -> ExpertTokens? {
      guard let layer, experts > 0 else { return nil }
      return found ?? ExpertTokens(layer: layer, counts: [Int](repeating: 0, count: experts))
    }
  }

  /// Layers in order, then what lies outside.
  let sections: [Section]

  init(_ family: any ModelFamily) {
    let layers = family.dimensions.layers
    var specs = [[WeightSpec]](repeating: [], count: layers + 1)
    for spec in family.weights where spec.isMultiplied { specs[spec.layer ?? layers].append(spec) }
    sections = specs.enumerated().map { index, specs in
      let layer = index < layers ? index : nil
      let hasExperts = layer != nil && specs.contains { $0.role.isRouted }
      return Section(layer: layer, specs: specs, experts: hasExperts ? family.dimensions.experts : 0)
    }
  }

  func declarations(_ form: StatisticsForm) -> [SafetensorsWriter.Declaration] {
    sections.flatMap { $0.declarations(form) }
  }
}

extension StatisticsLayout.Section {
  /// Where its weights lie, in words.
  var place: String { layer.map { "layer \($0)" } ?? "what lies outside the layers" }

  /// The section's tensors in file order.
  func declarations(_ form: StatisticsForm) -> [SafetensorsWriter.Declaration] {
    var tensors = specs.flatMap {
      StatisticsEntry.layout($0.name, groups: $0.inputGroups, columns: $0.shape.columns, form)
    }
    if let layer { tensors.append((CacheRange.tensorName(layer), .f32, [2])) }
    if let layer, experts > 0 {
      tensors.append((ExpertTokens.tensorName(layer), .i64, [experts]))
      tensors.append((ExpertSources.tensorName(layer), .i64, [experts, 4]))
    }
    return tensors.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) }
  }

  /// All that a file says of the section.
  /// - Throws: `code` where something is missing; `STAT_FORMAT`.
  func learned(_ found: Statistics, or code: ErrorCode) throws -> LearnedLayer {
    let entries = try specs.compactMap { try found.entry($0.name) }
    let cache = try layer.flatMap { try found.cacheRange(layer: $0) }
    let tokens = try layer.flatMap { try found.expertTokens(layer: $0) }
    let sources = try layer.flatMap { try found.expertSources(layer: $0) }
    let hasExperts = experts > 0
    guard entries.count == specs.count, entries.allSatisfy({ $0.absmax != nil }),
      (cache != nil) == (layer != nil), (tokens != nil) == hasExperts, (sources != nil) == hasExperts
    else { throw FormatError(code, file: found.file, "lacks statistics of \(place)") }
    return LearnedLayer(entries: entries, cache: cache, tokens: tokens, sources: sources)
  }
}
