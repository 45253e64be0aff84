// Which tensor of a dialect holds which weight: most are a tensor of their own; some dialects stack experts, fuse gate and
// up, let their rows alternate, or keep matrices transposed. The way back from `Spelling`.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// The names of a dialect.
struct TensorNaming {
  let family: any ModelFamily
  private let column: Int
  /// What quantized weights are written for, where it is a package of engines.
  let compressed: CompressedLayout?
  /// The scales of activations and caches that the result gives.
  private(set) var scales: StaticScales
  /// The dialect that has every expert's matrix for itself, where the one written stacks them.
  private let apart: Int?
  /// Whether MXFP8 lies as its makers publish it: config.json says so already, or the family is theirs.
  let hasMakersMXFP8: Bool

  /// The dialect that the model's tensors have or once had, else the hub's. For compressed-tensors a dialect that stacks what
  /// is quantized gives way to the first that has every expert's matrix for itself.
  init(_ model: Model, _ weights: [PlannedWeight], _ layout: CompressedLayout) throws {
    family = model.family
    let saysMXFP8 = model.saysMXFP8
    hasMakersMXFP8 = saysMXFP8 || TensorNaming.isMiniMaxM3(family)
    let own = model.family.dialects.firstIndex(of: model.dialect) ?? 0
    scales = try StaticScales(model, weights, layout)
    var layout = layout
    layout.kept = scales.kept
    guard layout.isNeeded(weights, family, column: own, saysMXFP8: saysMXFP8) else {
      (column, compressed, apart) = (own, nil, nil)
      guard !layout.cachesFP8 else {
        throw RequestError(
          .unsupported, "--kv-cache fp8 is said beside quantized weights, and none is quantized",
          help: "choose a scheme, or leave --kv-cache away")
      }
      return
    }
    layout.package = layout.package ?? TensorNaming.package(model, weights, scales)
    let quantized = weights.filter { CompressedLayout.isQuantized($0.resultEncoding) }
    /// Whether a dialect has every quantized matrix for itself.
    func isApart(_ column: Int) -> Bool {
      quantized.allSatisfy { $0.stored.spec.spellings[column].isWhole }
    }
    let dialects = model.family.dialects
    let written = dialects.indices.filter { model.family.writtenDialects.contains(dialects[$0]) }
    // The hub's names first; what only tools write serves where nothing else is apart (gpt-oss).
    let order = [own] + written + Array(dialects.indices)
    column = order.first(where: isApart) ?? 0
    compressed = layout
    apart = order.first { column in
      weights.allSatisfy { $0.stored.spec.shape.rank != 2 || $0.stored.spec.spellings[column].isWhole }
    }
    for planned in quantized
    where layout.format(planned, column: column, isStatic: scales.isStatic(planned, layout)) == nil {
      let encoding = planned.resultEncoding.isBlockFP4 ? FP4.mxfp4 : planned.resultEncoding
      throw SafetensorsRefusal.unsupported(
        encoding, planned.stored.spec, package: layout.package, activations: planned.decision.activations)
    }
    if layout.cachesFP8, layout.package == .compressedTensors,
      let latent = weights.first(where: { $0.stored.spec.holdsCachedKeys && $0.stored.spec.holdsLatents })
    {
      throw RequestError(
        .unsupported,
        "'\(latent.stored.spec.name)' gives latents, for whose cache engines take no scale from compressed-tensors",
        help: "choose --layout modelopt, or leave --kv-cache away")
    }
  }

  /// The package for a source and encodings where none was asked for: ModelOpt's where a global scale multiplies, as only its layout
  /// has it, and where the source is ModelOpt's and nothing is rounded again.
  private static func package(_ model: Model, _ weights: [PlannedWeight], _ scales: StaticScales)
    -> CompressedLayout.Package
  {
    let quantized = weights.filter { CompressedLayout.isQuantized($0.resultEncoding) }
    let multiplies = quantized.contains { ($0.resultEncoding as? NVFP4)?.isDivided == false }
    guard multiplies || quantized.allSatisfy(\.isKept) && model.saysModelOpt else {
      return .compressedTensors
    }
    let layout = CompressedLayout(schemeWord: nil, package: .modelOpt)
    let fits = quantized.allSatisfy {
      layout.format($0, isStatic: scales.isStatic($0, layout)) != nil
    }
    return fits ? .modelOpt : .compressedTensors
  }

  /// Takes what calibration saw.
  /// - Throws: as `StaticScales.choose`.
  mutating func chooseScales(_ statistics: Statistics?, _ weights: [PlannedWeight], _ model: Model) throws {
    guard let compressed else { return }
    try scales.choose(statistics, weights, model, compressed)
  }

  /// The module that engines look for: of a matrix in a stack the one that it has in the dialect without stacks, or a pattern
  /// for all in the container; nil for what is no linear layer.
  func module(of spec: WeightSpec) -> String? {
    let place = spelling(spec)
    if place.tensor.hasSuffix(".weight") { return String(place.tensor.dropLast(".weight".count)) }
    guard !place.isWhole || spec.shape.rank == 3 else { return nil }
    if let apart, case let other = spec.spellings[apart], other.tensor.hasSuffix(".weight"), other.isWhole {
      return String(other.tensor.dropLast(".weight".count))
    }
    // No dialect says the names: all that is in the container.
    guard let dot = place.tensor.lastIndex(of: ".") else { return nil }
    let container = place.tensor[..<dot].split(separator: ".").joined(separator: #"\."#)
    return "re:^\(container)\\..*"
  }

  /// How a package of engines lays out a quantized weight; nil where it is plain, or the makers' layout holds it.
  func format(_ planned: PlannedWeight) -> EngineFormat? {
    guard let compressed, CompressedLayout.isQuantized(planned.resultEncoding) else { return nil }
    return compressed.format(planned, column: column, isStatic: scales.isStatic(planned, compressed))
  }

  /// Where the result keeps a weight.
  func spelling(_ spec: WeightSpec) -> Spelling { spec.spellings[column] }

  /// Whether codes lie as DeepSeek-V4's makers have them, whether or not the variant runs here.
  static func isDeepSeekV4(_ family: any ModelFamily) -> Bool {
    family.core is DeepSeekV4 || family.modelType.hasPrefix("deepseek_v4")
  }

  /// Whether a family's makers publish MXFP8.
  static func isMiniMaxM3(_ family: any ModelFamily) -> Bool {
    family.core is MiniMaxM3 || family.modelType.hasPrefix("minimax_m3")
  }

  /// Whether a weight of this encoding has a layout of its family's makers, or plain.
  static func holds(_ encoding: any Encoding, _ spec: WeightSpec, _ model: Model) -> Bool {
    let place = spec.spellings[model.family.dialects.firstIndex(of: model.dialect) ?? 0]
    if encoding is Plain { return true }
    if let table = encoding as? IntegerTable { return place.isWhole && table.name == IntegerTable.i64.name }
    if encoding is FP4 {
      // DeepSeek-V4's experts beside `.scale`, gpt-oss's `_blocks` and `_scales`.
      return isDeepSeekV4(model.family) ? place.isWhole : place.stackIndex != nil && place.transposed
    }
    guard place.isWhole else { return false }
    return square(encoding) != nil || isMX(encoding) && (model.saysMXFP8 || isMiniMaxM3(model.family))
      || isEngramTable(encoding, place, model.family)
  }

  /// Whether codes are DeepSeek-V4.1's n-gram table, which lies beside square blocks.
  static func isEngramTable(_ encoding: any Encoding, _ place: Spelling, _ family: any ModelFamily) -> Bool {
    isMX(encoding) && isDeepSeekV4(family) && place.tensor.hasSuffix(FP8.engramTable + ".weight")
  }

  /// The side of the blocks of FP8 E4M3 with square ones; nil for everything else.
  static func square(_ encoding: any Encoding) -> Int? {
    guard let fp8 = encoding as? FP8, fp8.format == .e4m3,
      case .block(let rows, let columns) = fp8.granularity, rows == columns
    else { return nil }
    return rows
  }

  /// Whether an encoding is FP8 of blocks of 32 columns.
  static func isMX(_ encoding: any Encoding) -> Bool {
    encoding.name == FP8(.e4m3, .block(rows: 1, columns: FP4.group)).name
  }

  /// The steps of a weight, and the second weight it is joined with; nil for that second weight, which has no slab of its
  /// own.
  func steps(_ place: Int, _ weights: [PlannedWeight]) -> (steps: [Arrangement], other: Int?)? {
    let planned = weights[place]
    let spelling = spelling(planned.stored.spec)
    var steps: [Arrangement] = []
    var other: Int?
    if spelling.rowStride > 1 {
      guard spelling.rowPhase == 0 else { return nil }
      // Both halves of a fused matrix belong to one expert, whose weights lie side by side in the table.
      let partner = (place..<min(weights.count, place + 16)).first {
        let found = self.spelling(weights[$0].stored.spec)
        return found.tensor == spelling.tensor && found.stackIndex == spelling.stackIndex
          && found.rowPhase == 1
      }
      steps.append(.alternating)
      other = partner
    } else if spelling.transposed, let rows = spelling.rows, spelling.stackIndex != nil {
      // Columns of the tensor: the two are one matrix before it is turned.
      guard rows.lowerBound == 0 else { return nil }
      other = (place..<min(weights.count, place + 16)).first {
        let found = self.spelling(weights[$0].stored.spec)
        return found.tensor == spelling.tensor && found.stackIndex == spelling.stackIndex
          && found.rows?.lowerBound == rows.upperBound
      }
      steps.append(.followed)
    }
    if planned.isKept, planned.stored.encoding.isBlockFP4 { steps.append(.separateScales) }
    if planned.stored.encoding.name == IntegerTable.i32.name, !planned.stored.spec.hasSourceName {
      steps.append(.integers64)
    }
    // Blocks of FP4 have output channels first whatever the plain spelling does.
    let isFP4 = planned.resultEncoding is FP4 || planned.resultEncoding.isBlockFP4
    if spelling.transposed, !isFP4, planned.stored.spec.shape.rank == 2 { steps.append(.transposed) }
    return (steps, other)
  }

  /// The slabs in the order of their tensors' bytes: tensors as they first come, inside a stack by expert and row.
  func inOrder(_ slabs: [OutputMatrix], _ weights: [PlannedWeight]) -> [OutputMatrix] {
    var order: [String] = []
    var groups: [String: [OutputMatrix]] = [:]
    for slab in slabs {
      let name = spelling(weights[slab.weight].stored.spec).tensor
      if groups[name] == nil { order.append(name) }
      groups[name, default: []].append(slab)
    }
    func key(_ slab: OutputMatrix) -> (Int, Int) {
      let place = spelling(weights[slab.weight].stored.spec)
      return (place.stackIndex ?? 0, place.rows?.lowerBound ?? 0)
    }
    return order.flatMap { name in (groups[name] ?? []).sorted { key($0) < key($1) } }
  }

  /// The tensors that a plan's slabs fill, in their order.
  func tensors(_ plan: Plan) -> [NamedTensor] {
    var tensors: [NamedTensor] = []
    var names: [String] = []
    for (index, slab) in plan.slabs.enumerated() {
      let name = spelling(plan.weights[slab.weight].stored.spec).tensor
      if names.last == name {
        tensors[tensors.count - 1].slabs.append(index)
      } else {
        names.append(name)
        tensors.append(NamedTensor(slabs: [index], entries: []))
      }
    }
    for index in tensors.indices {
      tensors[index].entries = entries(names[index], tensors[index].slabs.map { plan.slabs[$0] }, plan)
    }
    return tensors
  }

  private func entries(_ name: String, _ slabs: [OutputMatrix], _ plan: Plan) -> [DeclaredTensor] {
    let first = slabs[0]
    let isStack = spelling(plan.weights[first.weight].stored.spec).stackIndex != nil
    let parts = first.parts.enumerated().map { index, part in
      var dimensions = part.shape.dimensions
      if isStack {
        let experts = slabs.reduce(0) {
          max($0, (spelling(plan.weights[$1.weight].stored.spec).stackIndex ?? 0) + 1)
        }
        let rows = slabs.reduce(0) { $0 + ($1.parts[index].shape.dimensions.first ?? 0) } / experts
        dimensions = [experts, rows] + dimensions.dropFirst()
      }
      return (part.name, part.dtype, Shape(dimensions))
    }
    let planned = plan.weights[first.weight]
    let cached = slabs.flatMap { cacheScales(plan.weights[$0.weight].stored.spec) }
    var weight = DeclaredWeight(
      name, first.shape, first.encoding, parts: parts, isStack: isStack,
      hasPlainScaleNames: TensorNaming.isDeepSeekV4(family))
    if CompressedLayout.isQuantized(first.encoding), let format = format(planned) {
      weight.inputScale = scales[planned.stored.spec.name]
      return format.declare(weight) + cached
    }
    guard let declared = Layouts.declare(weight) else {
      preconditionFailure("'\(name)' was planned in \(first.encoding.name), which no layout declares")
    }
    return declared + cached
  }
}

extension Model {
  /// Whether config.json, or the file beside it, is ModelOpt's.
  var saysModelOpt: Bool {
    if let config = try? smallFile("config.json"),
      config.array.firstRange(of: Array("\"quant_method\": \"modelopt".utf8)) != nil
    {
      return true
    }
    return ((try? smallFile(QuantizationConfig.sidecarName)) ?? nil) != nil
  }

  /// Whether config.json says `mxfp8` of the codes.
  var saysMXFP8: Bool {
    guard let config = try? smallFile("config.json") else { return false }
    return config.array.firstRange(of: Array("\"mxfp8\"".utf8)) != nil
  }
}
