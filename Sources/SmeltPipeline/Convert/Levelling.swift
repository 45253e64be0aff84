// One scheme for what engines make one matrix of, and for the experts of a layer. Formats/recipe.md, section "What engines fuse".

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Schemes of a plan that differ where engines have room for one, and the one that all of them get.
///
/// Embeddings and routers stay plain too. Source: vLLM 0.33.0, `compressed_tensors/utils.py` (`should_ignore_layer`: shards of a fused layer) and
/// `compressed_tensors_moe.py` (`get_moe_method`: all projections of all experts of a layer); SGLang 0.5.23, the same names.
struct Levelling {
  /// Another scheme for a weight.
  struct Change {
    let planned: PlannedWeight
    let was: String
  }

  /// What changes, by place in the plan.
  private(set) var changes: [Int: Change] = [:]
  /// What is said about it, a line for each kind of change.
  private(set) var warnings: [String] = []

  /// Weights that must get one scheme, as places in the plan.
  fileprivate struct Unit {
    let what: String
    let places: [Int]
    /// Whether engines have the matrix as plain numbers only.
    var isPlain = false
  }

  /// Finds what differs.
  /// - Parameters:
  ///   - plan: plans the weight of a place with another scheme.
  ///   - isStrict: whether to refuse what differs.
  /// - Throws: `RequestError` unsupported where `isStrict`.
  init(
    _ weights: [PlannedWeight], isStrict: Bool,
    plan: (_ place: Int, _ word: SchemeWord, _ reason: String) throws -> PlannedWeight
  ) throws {
    guard weights.contains(where: { $0.engineFormat != nil }) else { return }
    var counts: [(text: String, count: Int)] = []
    for unit in Levelling.units(weights) {
      let formats = Set(unit.places.map { weights[$0].engineFormat })
      let isRight =
        unit.isPlain
        ? unit.places.allSatisfy { weights[$0].isKept || weights[$0].engineFormat == nil }
        : formats.count == 1
      if isRight { continue }
      let found = Levelling.level(weights, unit, plan)
      if isStrict { throw Levelling.refusal(weights, unit, found?.scheme) }
      guard let found else {
        counts.add("engines refuse \(unit.what): their schemes differ, and no one of them suits all")
        continue
      }
      for (place, planned) in zip(unit.places, found.planned)
      where planned.engineFormat != weights[place].engineFormat {
        let was = weights[place].decision.word.name
        changes[place] = Change(planned: planned, was: was)
        counts.add("get \(found.scheme) instead of \(was): \(unit.why)")
      }
    }
    warnings = counts.map {
      $0.text.hasPrefix("engines") ? $0.text : "\(grouped($0.count)) weights \($0.text)"
    }
  }

  private static func units(_ weights: [PlannedWeight]) -> [Unit] {
    let specs = weights.map(\.stored.spec)
    var experts: [Int: [Int]] = [:]
    for (place, spec) in specs.enumerated() where spec.role.isRouted {
      experts[spec.layer ?? -1, default: []].append(place)
    }
    let layers = experts.sorted { $0.key < $1.key }.map { layer, places in
      Unit(what: "the experts of layer \(layer)", places: places)
    }
    let fused = FusionGroup.all(specs).filter { !specs[$0.places[0]].role.isRouted }
    // vLLM 0.33.0, `vocab_parallel_embedding.py` and `GateLinear`; SGLang 0.5.23, the models' gates.
    let plain = specs.enumerated().compactMap { place, spec -> Unit? in
      guard !spec.isCarried || spec.isDraft else { return nil }
      switch spec.role {
      case .embedding: return Unit(what: "embeddings", places: [place], isPlain: true)
      case .router: return Unit(what: "routers of layer \(spec.layer ?? 0)", places: [place], isPlain: true)
      default: return nil
      }
    }
    return layers + plain
      + fused.map { group, places in
        Unit(
          what: "\(group.matrix) of layer \(specs[places[0]].layer ?? 0)", places: places,
          isPlain: group.isPlain)
      }
  }

  /// The scheme of most bits that suits all weights of a unit: nobody gets fewer bits than were asked for.
  private static func level(
    _ weights: [PlannedWeight], _ unit: Unit,
    _ plan: (Int, SchemeWord, String) throws -> PlannedWeight
  ) -> (scheme: String, planned: [PlannedWeight])? {
    var schemes: [SchemeWord] = []
    for place in unit.places {
      // What a method has encoded stays as it is, and its scheme's name says what the others can be.
      let word = weights[place].decision.word
      let isPrepared = weights[place].stored.prepared != nil
      guard let scheme = isPrepared ? try? SchemeWord(word.name) : word,
        !schemes.contains(where: { $0.name == scheme.name })
      else { continue }
      schemes.append(scheme)
    }
    if unit.isPlain { schemes = [SchemeWord(Keep())] }
    var best: (scheme: String, planned: [PlannedWeight], bytes: Int)?
    for scheme in schemes {
      let planned = unit.places.compactMap {
        weights[$0].decision.word.name == scheme.name
          ? weights[$0] : try? plan($0, scheme, "one scheme with \(unit.what)")
      }
      guard planned.count == unit.places.count,
        unit.isPlain ? planned.allSatisfy(\.isKept) : Set(planned.map(\.engineFormat)).count == 1
      else { continue }
      let bytes = planned.reduce(0) { $0 + $1.resultEncoding.byteCount(of: $1.stored.spec.shape) }
      if bytes > best?.bytes ?? -1 { best = (scheme.name, planned, bytes) }
    }
    return best.map { ($0.scheme, $0.planned) }
  }

  private static func refusal(_ weights: [PlannedWeight], _ unit: Unit, _ found: String?) -> RequestError {
    let first = weights[unit.places[0]]
    let other =
      unit.places.map { weights[$0] }.first { $0.engineFormat != first.engineFormat } ?? first
    return RequestError(
      .unsupported,
      "'\(first.stored.spec.name)' would be \(first.decision.word.name) and '\(other.stored.spec.name)' "
        + "\(other.decision.word.name), and engines have one scheme for \(unit.what)",
      help: found.map { "give them one scheme; without --strict all get \($0)" }
        ?? "give them one scheme by a recipe")
  }
}

extension Levelling.Unit {
  fileprivate var why: String {
    if isPlain { return "engines hold \(what.prefix { $0 != " " }) as plain numbers" }
    return what.hasPrefix("the experts")
      ? "engines have one scheme for all experts of a layer"
      : "engines make one matrix of \(what.prefix { $0 != " " })"
  }
}

extension [(text: String, count: Int)] {
  fileprivate mutating func add(_ text: String) {
    if let place = firstIndex(where: { $0.text == text }) {
      self[place].count += 1
    } else {
      append((text, 1))
    }
  }
}

extension PlannedWeight {
  /// What an engine's configuration says of the weight: the encoding and the activations, or nil for plain numbers.
  var engineFormat: String? {
    let encoding = resultEncoding
    guard !(encoding is Plain || encoding is IntegerTable) else { return nil }
    return encoding.name + (decision.activations.map { "@\($0.rawValue)" } ?? "")
  }
}
