// Which tensors a statistics file has. Formats/statistics.md.

import SmeltContainers
import SmeltModels
import SmeltQuantization
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

  var declarations: [SafetensorsWriter.Declaration] { sections.flatMap(\.declarations) }
}

extension StatisticsLayout.Section {
  /// The section's tensors in file order.
  var declarations: [SafetensorsWriter.Declaration] {
    var tensors = specs.flatMap {
      StatisticsEntry.layout($0.name, groups: $0.inputGroups, columns: $0.shape.columns)
    }
    if let layer { tensors.append((CacheRange.tensorName(layer), .f32, [2])) }
    if let layer, experts > 0 {
      tensors.append((ExpertTokens.tensorName(layer), .i64, [experts]))
      tensors.append((ExpertSources.tensorName(layer), .i64, [experts, 4]))
    }
    return tensors.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) }
  }
}
