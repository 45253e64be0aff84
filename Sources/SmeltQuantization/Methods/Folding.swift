// Factors of input channels that leave the model's outputs as they are: what one weight gives is divided, what the next
// ones take is multiplied. Formats/methods.md, section 3.

package import SmeltModels
internal import SmeltStorage
package import SmeltTensors

/// A place where factors of channels can move from one weight to those that read its output.
package struct FoldSite: Sendable {
  /// Whose output is divided: a norm's elements, or the rows of a matrix.
  package let giver: WeightName
  /// Whose columns are multiplied: every weight that reads the giver's output.
  package let readers: [WeightName]
  /// Channels between them.
  package let channels: Int
  /// What the pass adds to the giver's numbers before it uses them (`WeightSpec.offset`).
  package let offset: Float

  /// The sites of a layer: a norm or a matrix, and all weights that read it (`WeightSpec.input`), unless what it gives is clamped or
  /// offset on the way. Norms first.
  /// - Parameter specs: the weights of one layer.
  package static func all(_ specs: [WeightSpec]) -> [FoldSite] {
    let readers = Dictionary(grouping: specs.filter { $0.shape.rank >= 2 && $0.input != nil }) { $0.input }
    let names = Set(specs.map(\.name))
    let givers = specs.filter { giver in
      let bias = WeightName(giver.name.base.replacing(".weight", with: ".bias"), expert: giver.name.expert)
      return !giver.isClampedAfter && (giver.role == .norm || !names.contains(bias) || bias == giver.name)
    }
    return (givers.filter { $0.role == .norm } + givers.filter { $0.role != .norm }).compactMap { giver in
      let channels = giver.shape.rank < 2 ? giver.shape.count : giver.shape.rows
      guard let own = readers[giver.name],
        own.allSatisfy({ $0.shape.columns == channels && $0.inputGroups == 1 })
      else { return nil }
      return FoldSite(giver: giver.name, readers: own.map(\.name), channels: channels, offset: giver.offset)
    }
  }
}

/// What folding does to each weight.
package struct FoldFactors: Sendable {
  /// Its output channels (a norm's elements) are divided by these; nil: they stay.
  package var divisors: [Float]?
  /// What the pass adds to the output channels' numbers: the sum is divided, and it is taken off again.
  package var offset: Float = 0
  /// Its input channels are multiplied by these; nil: they stay.
  package var multipliers: [Float]?

  /// The factors of some sites.
  package static func all(_ chosen: [(site: FoldSite, factors: [Float])]) -> [WeightName: FoldFactors] {
    var all: [WeightName: FoldFactors] = [:]
    for (site, factors) in chosen {
      precondition(factors.count == site.channels, "\(factors.count) factors for \(site.channels) channels")
      all[site.giver, default: FoldFactors()].divisors = factors
      all[site.giver]?.offset = site.offset
      for reader in site.readers { all[reader, default: FoldFactors()].multipliers = factors }
    }
    return all
  }

  /// The weight with its channels divided and multiplied, in float32: exact for powers of two, else rounded once or twice.
  package func apply(_ weight: Weight) throws -> Weight {
    let columns = weight.columns
    let isVector = weight.shape.rank < 2
    var values = weight.decode()
    if let divisors {
      for index in values.indices {
        let divisor = divisors[isVector ? index : index / columns]
        values[index] = offset == 0 ? values[index] / divisor : (values[index] + offset) / divisor - offset
      }
    }
    if let multipliers {
      for index in values.indices { values[index] *= multipliers[index % columns] }
    }
    return try weight.replacing(values)
  }
}

extension Weight {
  /// The same weight with other numbers, in float32.
  func replacing(_ values: [Float]) throws -> Weight {
    // SAFETY: room for the floats, all of which are copied.
    let buffer = ByteBuffer(count: values.count * 4)
    values.withUnsafeBytes { buffer.bytes.copyMemory(from: $0) }
    return try Weight(
      name: name, shape: shape, encoding: Plain.f32,
      parts: [Part(.values, dtype: .f32, shape: shape, bytes: Bytes(buffer))], file: file)
  }
}
