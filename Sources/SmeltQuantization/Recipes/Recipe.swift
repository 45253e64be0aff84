// Which scheme for which weight. Formats/recipe.md is the law.

package import SmeltModels
package import SmeltStorage
package import SmeltTensors

/// A choice of schemes: rules in order, the first that matches wins, and a default scheme for the rest.
package struct Recipe: Sendable {
  /// What a rule looks at.
  package enum Match: Sendable, Hashable {
    /// What the weight does.
    case role(Role)
    /// A glob over canonical names and over the tensors' names in any dialect of the family: `*` any text, `?` any one character.
    /// Without `#` a canonical name is compared without the expert's number.
    case name(String)
    /// These names without the expert's number, which the recipe of a name chose.
    case names(Set<String>, of: String)

    /// Whether a weight is meant.
    package func covers(_ spec: WeightSpec) -> Bool {
      switch self {
      case .role(let role): spec.role == role
      case .name(let glob):
        matchesGlob(glob, glob.utf8.contains(UInt8(ascii: "#")) ? spec.name.description : spec.name.base)
          || spec.spellings.contains { matchesGlob(glob, $0.tensor) }
      case .names(let names, _): names.contains(spec.name.base)
      }
    }
  }

  /// One rule.
  package struct Rule: Sendable {
    /// Which weights.
    package let match: Match
    /// What becomes of them.
    package let scheme: any Scheme
    /// How their scales are chosen; nil: as the recipe says.
    package let observer: Observer?
    /// What engines are told of the activations; nil: what goes with the scheme.
    package let activations: EngineActivations?
    /// Where it stands in the recipe's file, for messages.
    let offset: Int?

    /// The scheme as a recipe's file spells it.
    var word: SchemeWord { SchemeWord(scheme, activations) }

    /// A rule.
    package init(_ match: Match, _ scheme: any Scheme, observer: Observer? = nil) {
      self.init(match, SchemeWord(scheme), observer: observer, offset: nil)
    }

    init(_ match: Match, _ word: SchemeWord, observer: Observer?, offset: Int?) {
      self.match = match
      scheme = word.scheme
      activations = word.activations
      self.observer = observer
      self.offset = offset
    }
  }

  /// The scheme for weights that no rule covers, as far as it reaches.
  package var defaultScheme: any Scheme
  /// What engines are told of the activations of those; nil: what goes with the scheme.
  package var defaultActivations: EngineActivations?
  /// Rules, the first match wins.
  package var rules: [Rule]
  /// How scales are chosen unless a rule says otherwise; nil: as each scheme usually does (`auto`).
  package var observer: Observer?
  /// The file it came from, for messages.
  package var file: String?

  /// The default recipe of a scheme, or one with rules.
  package init(_ defaultScheme: any Scheme, rules: [Rule] = [], observer: Observer? = nil) {
    self.defaultScheme = defaultScheme
    self.rules = rules
    self.observer = observer
  }

  /// The default recipe of a user's word for a scheme.
  package init(_ word: SchemeWord) {
    self.init(word.scheme)
    defaultActivations = word.activations
  }

  /// What engines are told of the activations of a weight; nil: what goes with the encoding.
  package func activations(for spec: WeightSpec, source: any Encoding) -> EngineActivations? {
    if source is IntegerTable || spec.shape.rank < 2 { return nil }
    if let rule = rules.first(where: { $0.match.covers(spec) }) { return rule.activations }
    return reaches(spec, source) ? defaultActivations : nil
  }

  /// The scheme of a weight. Tables of integers are always kept; vectors are kept unless a rule names a scheme without
  /// scales.
  package func scheme(for spec: WeightSpec, source: any Encoding) -> any Scheme {
    choose(spec, source).scheme
  }

  /// Why a weight gets its scheme, in the words of the ledger.
  package func reason(for spec: WeightSpec, source: any Encoding) -> String {
    if source is IntegerTable || spec.role == .hashTable { return "tables of integers are kept" }
    if let index = rules.firstIndex(where: { $0.match.covers(spec) }) {
      switch rules[index].match {
      case .role(let role): return "recipe rule \(index): role \(role.rawValue)"
      case .name(let glob): return "recipe rule \(index): name \(glob)"
      case .names(_, let recipe): return "\(recipe): \(rules[index].scheme.name) for \(spec.role.rawValue)"
      }
    }
    return reaches(spec, source)
      ? "role \(spec.role.rawValue): \(defaultScheme.name)"
      : "role \(spec.role.rawValue): kept by \(defaultScheme.name)"
  }

  /// The scheme of one of several tensors that hold a weight, where the recipe says it for the tensor; nil: that of the weight.
  ///
  /// A rule for the weight's role or name is a rule for all of its tensors. A copy in another role has that role's.
  package func scheme(
    ofPart tensor: String, _ shape: Shape, _ role: Role, of spec: WeightSpec, source: any Encoding
  ) -> (any Scheme)? {
    if role == spec.role, let rule = rules.first(where: { $0.match.covers(spec) }) {
      guard case .names = rule.match else { return nil }
    }
    let part = WeightSpec(WeightName(tensor), shape, role, layer: spec.layer, spellings: spec.spellings)
    return choose(part, source).scheme
  }

  /// The scheme, observer and importance of a weight, and what the ledger says about them.
  /// The importance is read only for the observer that uses it.
  /// - Parameter statistics: what calibration learned, or nil when there was none.
  /// - Throws: `STAT_FORMAT` for damaged statistics, `STAT_MISMATCH` for those of another shape.
  package func decide(_ spec: WeightSpec, source: any Encoding, statistics: Statistics?) throws(FormatError)
    -> QuantizeDecision
  {
    var (scheme, observer) = choose(spec, source)
    var note = scheme.note(for: source, shape: spec.shape)
    if let other = scheme.fallback(for: source, shape: spec.shape) { (scheme, note) = other }
    var decision = QuantizeDecision(
      scheme: scheme, options: QuantizeOptions(observer: observer), note: note)
    guard scheme.choosesScales, let statistics else { return decision }
    guard let reach = try statistics.reach(spec.name) else {
      decision.add(
        note: spec.role.isRouted
          ? QuantizeDecision.unreached : "weights alone: the statistics do not name it")
      return decision
    }
    guard reach.columns == spec.shape.columns, spec.shape.rows % reach.groups == 0 else {
      throw FormatError(
        .statisticsMismatch, file: statistics.file, subject: spec.name.description,
        "the statistics have \(reach.groups) groups of \(reach.columns) input channels, "
          + "which does not fit \(spec.shape)")
    }
    guard reach.counts.allSatisfy({ $0 > 0 }) else {
      decision.add(note: try statistics.source(of: spec.name)?.note ?? QuantizeDecision.unreached)
      return decision
    }
    if let source = try statistics.source(of: spec.name) {
      if let note = source.note { decision.add(note: note) }
      if source.kind == .weightsAlone || source.kind == .peers { return decision }
    }
    if observer == .mse { decision.options.importance = try statistics.importance(spec.name) }
    return decision
  }

  /// Refuses a recipe that gives experts of one layer and role different schemes or observers, and one with a name
  /// that no weight has.
  /// - Parameter source: the encoding a weight has in the source.
  /// - Throws: `RECIPE_FORMAT`.
  package func check(_ specs: [WeightSpec], source: (WeightSpec) -> any Encoding) throws(FormatError) {
    for (index, rule) in rules.enumerated() {
      guard case .name(let glob) = rule.match, !specs.contains(where: { rule.match.covers($0) }) else {
        continue
      }
      throw FormatError(
        .recipe, file: file, subject: "rules[\(index)].name", offset: rule.offset,
        "'\(glob)' matches no weight of the model",
        help:
          "names are canonical, for example blk.0.ffn_gate_exps.weight, or the source's; `inspect --tensors` and `plan --json` list them"
      )
    }
    var first: [Siblings: (name: WeightName, choice: String)] = [:]
    for spec in specs where spec.role.isRouted {
      let chosen = choose(spec, source(spec))
      let choice =
        chosen.scheme.choosesScales
        ? "\(chosen.scheme.name) with \(chosen.observer)" : chosen.scheme.name
      let siblings = Siblings(layer: spec.layer, role: spec.role)
      guard let other = first[siblings] else {
        first[siblings] = (spec.name, choice)
        continue
      }
      guard other.choice == choice else {
        throw FormatError(
          .recipe, file: file, subject: spec.name.description,
          "gets \(choice), but its sibling '\(other.name)' gets \(other.choice); "
            + "expected one scheme for all experts of a layer and role",
          help: "write the rule for the role, or a name without the expert's number")
      }
    }
  }

  private struct Siblings: Hashable {
    let layer: Int?
    let role: Role
  }

  private func choose(_ spec: WeightSpec, _ source: any Encoding) -> (scheme: any Scheme, observer: Observer)
  {
    func chosen(_ scheme: any Scheme, _ own: Observer?) -> (scheme: any Scheme, observer: Observer) {
      (scheme, own ?? observer ?? scheme.usualObserver)
    }
    if source is IntegerTable || spec.role == .hashTable { return chosen(Keep(), nil) }
    if let rule = rules.first(where: { $0.match.covers(spec) }) {
      let fits = spec.shape.rank >= 2 || rule.scheme.reach == .matrices
      return chosen(fits ? rule.scheme : Keep(), rule.observer)
    }
    return chosen(reaches(spec, source) ? defaultScheme : Keep(), nil)
  }

  /// Whether the default scheme applies to a weight.
  private func reaches(_ spec: WeightSpec, _ source: any Encoding) -> Bool {
    guard spec.shape.rank >= 2 else { return false }
    switch defaultScheme.reach {
    case .nothing: return false
    case .layerMatrices: return spec.role.isQuantizedByDefault
    case .matrices:
      switch spec.role {
      case .norm, .bias, .selectionBias, .hashTable, .sink, .hyperConnection: return false
      case .router, .compressor: return source.name != Plain.f32.name  // F32 there is the maker's choice
      default: return true
      }
    }
  }
}

/// What becomes of one weight.
package struct QuantizeDecision: Sendable {
  /// What a weight's note says when calibration brought it no token.
  package static let unreached = "weights alone: no calibration token reached it"

  /// The scheme.
  package var scheme: any Scheme
  /// Observer and importance.
  package var options: QuantizeOptions
  /// A reason for the ledger, where there is one.
  package var note: String?
  /// What engines are told of the activations; nil: what goes with the encoding.
  package var activations: EngineActivations?

  /// Scheme and activations together.
  package var word: SchemeWord { SchemeWord(scheme, activations) }

  /// A decision.
  package init(scheme: any Scheme, options: QuantizeOptions, note: String?) {
    self.scheme = scheme
    self.options = options
    self.note = note
  }

  package mutating func add(note more: String) { note = note.map { "\($0); \(more)" } ?? more }
}
