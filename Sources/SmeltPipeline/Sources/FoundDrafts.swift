// Blocks that draft tokens, as a source holds them: by their family's table where a block has all of its weights, else under the names
// of their tensors. Nothing of them is left out unasked.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

/// What a source holds of the blocks that draft tokens.
struct FoundDrafts {
  /// The weights: blocks of the family's table first, then what has the source's names.
  private(set) var specs: [WeightSpec] = []
  /// How they are stored, in the same order.
  private(set) var joined: [JoinedWeight] = []
  /// Blocks of the family's table.
  private(set) var blocks = 0

  /// The family with what it carries of them: itself where there is nothing.
  func carried(by family: any ModelFamily) -> any ModelFamily {
    specs.isEmpty ? family : CarryingFamily(family, carrying: specs, draftBlocks: blocks)
  }

  /// The family's blocks in a directory.
  /// - Parameters:
  ///   - column: the dialect of the family's own weights.
  ///   - form: how a wrapper spells the family's tensors.
  ///   - used: tensors of the family's own weights.
  ///   - left: whether a named rule or the user leaves a tensor out.
  /// - Throws: what the layouts throw for scales that do not fit.
  init(
    _ family: any ModelFamily, column: Int, form: WrapperForm? = nil, in source: some TensorSource,
    _ quantization: QuantizationConfig, used: TensorSet, left: (TensorInfo) -> Bool
  ) throws {
    let prefixes = family.drafts.prefixes.map { form?.tensor($0) ?? $0 }
    let own = source.tensors.filter { tensor in
      prefixes.contains { tensor.name.hasPrefix($0) } && !used.contains(tensor) && !left(tensor)
    }
    guard !own.isEmpty else { return }
    let owned = TensorSet(own)
    var claimed = TensorSet()
    for block in 0..<DraftBlocks.most {
      let table = family.drafts.table(block).map { spec in form.map { spec.spelled($0) } ?? spec }
      guard let place = table.first(where: { !$0.isOptional })?.spellings[column],
        let found = Layouts.find(place, in: source, quantization), owned.contains(found.codes)
      else { break }
      let whole = try FoundDrafts.whole(table) { spec in
        try Layouts.join(WeightRequest(spec.spellings[column], shape: spec.shape), in: source, quantization)
      }
      guard let found = whole else { continue }
      // What the user leaves out leaves the rest of its block under the names of its tensors.
      let tensors = found.lazy.map(\.joined).tensors(in: source)
      guard tensors.isSubset(of: owned) else { continue }
      add(found)
      claimed.formUnion(tensors)
    }
    for weight in try Layouts.everything(of: own, in: source, except: claimed, quantization) {
      addUnnamed(
        WeightSpec(weight, dialects: family.dialects.count, hasLayer: false), weight.joined)
    }
  }

  /// The family's blocks in a GGUF file.
  /// - Parameters:
  ///   - count: how many the keys count.
  ///   - join: the weight of a row of the family's table, or nil when its tensors are not there.
  ///   - stored: a tensor as it is.
  init(
    _ family: any ModelFamily, count: Int, in source: GGUFTensors, left: (TensorInfo) throws -> Bool,
    join: (WeightSpec) throws -> JoinedWeight?, stored: (String) throws -> JoinedWeight?
  ) throws {
    let first = family.dimensions.layers
    let prefixes = (first..<first + min(count, DraftBlocks.most)).map { "blk.\($0)." }
    let own = try source.tensors.filter { tensor in
      try prefixes.contains { tensor.name.hasPrefix($0) } && !left(tensor)
    }
    guard !own.isEmpty else { return }
    var claimed: Set<String> = []
    for (block, prefix) in prefixes.enumerated() where own.contains(where: { $0.name.hasPrefix(prefix) }) {
      guard let found = try FoundDrafts.whole(family.drafts.table(block), join: join) else { continue }
      add(found)
      claimed.formUnion(found.flatMap { $0.joined.tensors.map(\.name) })
    }
    for tensor in own where !claimed.contains(tensor.name) {
      guard let weight = try stored(tensor.name) else { continue }
      let name = WeightName(parsing: tensor.name)
      addUnnamed(
        WeightSpec(
          carried: name, weight.shape, Spelling(tensor.name), dialects: family.dialects.count, hasLayer: false
        ), weight)
    }
  }

  /// The weights of a block, or nil where one that must be there is not, has other dimensions, or experts are stored in several ways:
  /// such a block is of another make.
  private static func whole(_ table: [WeightSpec], join: (WeightSpec) throws -> JoinedWeight?) throws
    -> [(spec: WeightSpec, joined: JoinedWeight)]?
  {
    var found: [(spec: WeightSpec, joined: JoinedWeight)] = []
    var encodings: [String: String] = [:]
    for spec in table {
      do {
        guard let joined = try join(spec) else {
          guard spec.isOptional else { return nil }
          continue
        }
        let encoding = joined.encoding.name
        guard encodings[spec.name.base] ?? encoding == encoding else { return nil }
        encodings[spec.name.base] = encoding
        found.append((spec, joined))
      } catch let error as FormatError where error.code == .configShape {
        return nil
      }
    }
    return found.isEmpty ? nil : found
  }

  private mutating func add(_ found: [(spec: WeightSpec, joined: JoinedWeight)]) {
    specs += found.map(\.spec)
    joined += found.map(\.joined)
    blocks += 1
  }

  private mutating func addUnnamed(_ spec: WeightSpec, _ weight: JoinedWeight) {
    var spec = spec
    spec.isDraft = true
    specs.append(spec)
    joined.append(weight)
  }

  /// The blocks that an ingot carries, in the order of the family's table, then its other carried weights.
  /// - Parameters:
  ///   - form: how a wrapper spells the family's tensors; nil without one.
  ///   - names: what a wrapper's configuration says of drafts.
  static func order(
    _ carried: [WeightSpec], of family: any ModelFamily, _ form: WrapperForm?, _ names: DraftNames
  ) -> (specs: [WeightSpec], blocks: Int) {
    var left = Dictionary(carried.enumerated().map { ($1.name, $0) }) { first, _ in first }
    var specs: [WeightSpec] = []
    var blocks = 0
    let prefixes = Set(carried.map { $0.name.base.split(separator: ".").prefix(2).joined(separator: ".") })
    for block in 0..<DraftBlocks.most where prefixes.contains("blk.\(family.drafts.first + block)") {
      let table = family.drafts.table(block).map { spec in form.map { spec.spelled($0) } ?? spec }
      func isThere(_ spec: WeightSpec) -> Bool {
        left[spec.name].map { carried[$0].shape == spec.shape } ?? false
      }
      guard !table.isEmpty, table.allSatisfy({ $0.isOptional || isThere($0) }) else { continue }
      for spec in table where isThere(spec) {
        specs.append(spec)
        left[spec.name] = nil
      }
      blocks += 1
    }
    let others = left.values.sorted().map { place in
      var spec = carried[place]
      let name = spec.name.base
      spec.isDraft =
        family.drafts.prefixes.contains { name.hasPrefix(form?.tensor($0) ?? $0) }
        || DraftBlocks.isBehind(family.dimensions.layers, name) || form != nil && names.covers(name)
      return spec
    }
    return (specs + others, blocks)
  }
}

extension DraftBlocks {
  /// Whether a name is that of GGUF's for a block behind the model's layers.
  static func isBehind(_ layers: Int, _ name: String) -> Bool {
    let words = name.split(separator: ".", maxSplits: 2)
    guard layers > 0, words.count == 3, words[0] == "blk", let number = Int(words[1]) else { return false }
    return number >= layers
  }
}
