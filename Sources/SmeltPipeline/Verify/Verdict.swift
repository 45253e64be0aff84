// What is demanded of a result, and whether it was met. Formats/report.md, section 3.

import SmeltStorage

/// What `verify` demands of a result. Nothing demanded, nothing judged.
package struct Thresholds: Sendable {
  /// The largest mean KL divergence that passes, in nats a token.
  package var maxKL: Double?
  /// The largest mean KL divergence of drafts that passes, where they are run: as that of the model, times `draftRoom`.
  var maxDraftKL: Double? { maxKL.map { $0 * Thresholds.draftRoom } }
  /// A draft rests on one layer more than the model's logits, and on the model's own error.
  static let draftRoom = 2.0
  /// The largest 99th percentile of the KL divergence.
  package var maxP99: Double?
  /// The smallest share of tokens with the same most likely next token that passes.
  package var minTop1: Double?
  /// The smallest share of tokens with the same experts in every layer.
  package var minRouter: Double?
  /// The largest relative error of a weight.
  package var maxWeightError: Double?
  /// The profile that the numbers come from.
  package var profile: Profile?

  /// Thresholds; those of a profile where none is given.
  package init(
    profile: Profile? = nil, maxKL: Double? = nil, minTop1: Double? = nil, maxWeightError: Double? = nil
  ) {
    self = profile?.thresholds ?? Thresholds(none: ())
    self.profile = profile
    self.maxKL = maxKL ?? self.maxKL
    self.minTop1 = minTop1 ?? self.minTop1
    self.maxWeightError = maxWeightError
  }

  private init(none: Void) {}

  fileprivate init(maxKL: Double, maxP99: Double, minTop1: Double, minRouter: Double) {
    self.maxKL = maxKL
    self.maxP99 = maxP99
    self.minTop1 = minTop1
    self.minRouter = minRouter
  }

  /// Sets of thresholds for people who need not know numbers.
  package enum Profile: String, Sendable, CaseIterable {
    /// In place of the source wherever that is used: what eight and six bits do.
    case nearLossless = "near-lossless"
    /// Everyday use: what four bits do when they are chosen with care.
    case good
    /// Where memory decides: readable, and other words now and then.
    case usable

    /// The numbers; Formats/report.md says what they were measured on.
    var thresholds: Thresholds {
      switch self {
      case .nearLossless: Thresholds(maxKL: 0.002, maxP99: 0.03, minTop1: 0.98, minRouter: 0.96)
      case .good: Thresholds(maxKL: 0.0075, maxP99: 0.08, minTop1: 0.945, minRouter: 0.89)
      case .usable: Thresholds(maxKL: 0.03, maxP99: 0.25, minTop1: 0.88, minRouter: 0.75)
      }
    }

    /// A profile of a name.
    /// - Throws: `RequestError` usage, with the nearest name.
    package static func named(_ name: String) throws -> Profile {
      guard let profile = Profile(rawValue: name.lowercased()) else {
        throw unknownName(name, kind: "profile", among: allCases.map(\.rawValue))
      }
      return profile
    }
  }
}

/// Whether a result is what was asked for.
package enum Verdict: String, Sendable, CaseIterable {
  /// Every criterion is met.
  case pass
  /// One is not.
  case fail
  /// Nothing was demanded, and nothing is damaged.
  case notJudged = "not judged"

  /// As people read it on a terminal.
  var text: String { self == .fail ? "FAIL" : rawValue }
  /// The class of a page.
  var style: String { self == .notJudged ? "open" : rawValue }
}

/// One thing demanded, and what was found.
package struct Criterion: Sendable {
  /// The key of the report that it is about.
  package var key: String
  /// The words for it.
  package var name: String
  /// What was found.
  package var found: Double
  /// The bound.
  package var demanded: Double
  /// Whether what is found may be at most the bound; else it must be at least that.
  package var isCeiling: Bool

  /// Whether it is met; NaN never is.
  package var isMet: Bool { isCeiling ? found <= demanded : found >= demanded }

  /// For machines.
  var json: JSON {
    [
      "key": JSON(key), "found": JSON(found), isCeiling ? "at_most" : "at_least": JSON(demanded),
      "met": JSON(isMet),
    ]
  }

  /// Found and demanded.
  var text: String { "\(name) \(foundText) (limit: \(demandedText))" }

  /// What was found, for people.
  var foundText: String { shown(found) }
  /// What is demanded, for people.
  var demandedText: String { "at \(isCeiling ? "most" : "least") \(shown(demanded))" }

  private func shown(_ value: Double) -> String {
    ["faults", "weights[].state"].contains(key)
      ? grouped(Int(value)) : isCeiling ? scientific(value) : fixed(value, 4)
  }
}

/// Something that no scheme explains: it fails a result whatever the thresholds.
package struct Fault: Sendable {
  /// What it is about.
  package enum Kind: String, Sendable, CaseIterable {
    /// A weight's numbers are not what its scheme makes of the source's.
    case weight
    /// The result's configuration makes the pass compute something else.
    case configuration
    /// The result's tokenizer gives other ids.
    case tokenizer
    /// The logits are no finite numbers.
    case numbers
  }

  /// What it is about.
  package var kind: Kind
  /// The weight's canonical name, the key, or what was compared.
  package var subject: String
  /// The row that is furthest off; nil where it is about no weight.
  package var row: Int?
  /// The number that is furthest off; nil where the row's whole error was recorded.
  package var column: Int?
  /// How many rows are beyond their bound.
  package var rows: Int?
  /// How far that number is off; without a column the row's relative error.
  package var found: Double?
  /// The most that its scheme allows.
  package var allowed: Double?
  /// A sentence for people.
  package var problem: String

  /// A weight that is damaged.
  init(weight: String, _ row: WeightFindings.Row?, _ expected: WeightExpectation) {
    kind = .weight
    subject = weight
    self.row = row?.row
    column = row?.column
    rows = row?.count
    found = row?.found
    allowed = row?.allowed
    let (found, allowed) = (scientific(row?.found ?? 0), scientific(row?.allowed ?? 0))
    let place = "row \(row?.row ?? 0)" + (row?.column.map { ", column \($0)" } ?? "")
    let bound =
      expected.recorded != nil && row?.column == nil
      ? "is off by \(found) of its size, \(allowed) was recorded when it was written"
      : expected.isKept
        ? "is off by \(found), and is kept as it was, so that it must be the source's"
        : "is off by \(found), its scheme allows \(allowed)"
    problem = "\(place) \(bound); \(grouped(row?.count ?? 0)) row\(row?.count == 1 ? " is" : "s are") beyond"
  }

  /// A difference that changes numbers or ids.
  init(_ difference: ModelDifference) {
    kind = difference.kind == .configuration ? .configuration : .tokenizer
    subject = difference.key
    problem =
      "the source has \(excerpt(difference.source, limit: 80)), the result \(excerpt(difference.result, limit: 80))"
  }

  /// Logits that are no numbers.
  init(numbers problem: String) {
    kind = .numbers
    subject = "kl.mean"
    self.problem = problem
  }

  /// For machines.
  var json: JSON {
    var members: [(String, JSON)] = [("kind", JSON(kind.rawValue)), ("subject", JSON(subject))]
    if let row, let rows {
      members.append(("row", JSON(row)))
      if let column { members.append(("column", JSON(column))) }
      members.append(("rows", JSON(rows)))
      members += [("found", JSON(found ?? .nan)), ("allowed", JSON(allowed ?? .nan))]
    }
    return JSON(members: members + [("problem", JSON(problem))])
  }

  /// One line for people.
  package var text: String { printable("\(kind.rawValue) \(subject): \(problem)") }
}

extension Report {
  /// Everything that is demanded: that nothing is damaged, always, and the thresholds given.
  package var criteria: [Criterion] {
    var criteria = [
      Criterion(key: "faults", name: "faults", found: Double(faults.count), demanded: 0, isCeiling: true)
    ]
    func demand(_ key: String, _ name: String, _ found: Double, _ bound: Double?, isCeiling: Bool = true) {
      guard let bound else { return }
      criteria.append(Criterion(key: key, name: name, found: found, demanded: bound, isCeiling: isCeiling))
    }
    demand("kl.mean", "mean KL", kl.mean, thresholds.maxKL)
    demand("kl.p99", "KL of 99 tokens in 100", kl.p99, thresholds.maxP99)
    demand("top1_agreement", "top-1", top1, thresholds.minTop1, isCeiling: false)
    // Of several texts each has to meet what is demanded of all together: the worst of them says whether they do.
    if let worst = texts.worst(by: \.kl.mean) {
      demand("texts[].kl.mean", "mean KL, \(worst.name)", worst.kl.mean, thresholds.maxKL)
    }
    if let worst = texts.worst(by: \.kl.p99) {
      demand("texts[].kl.p99", "KL of 99 tokens in 100, \(worst.name)", worst.kl.p99, thresholds.maxP99)
    }
    if let worst = texts.worst(by: { -$0.top1 }) {
      demand(
        "texts[].top1_agreement", "top-1, \(worst.name)", worst.top1, thresholds.minTop1, isCeiling: false)
    }
    if let engine {
      demand("engine.kl.mean", "mean KL in \(engine.title)", engine.kl.mean, thresholds.maxKL)
      demand(
        "engine.top1_agreement", "top-1 in \(engine.title)", engine.top1, thresholds.minTop1, isCeiling: false
      )
    }
    if let worst = router.map(\.setAgreement).min() {
      demand("router[].set_agreement", "router, worst layer", worst, thresholds.minRouter, isCeiling: false)
    }
    for draft in drafts {
      demand("mtp[].kl.mean", "mean KL of drafts", draft.kl.mean, thresholds.maxDraftKL)
    }
    demand(
      "weights[].relative_error", "weight error, worst", weights.map(\.relativeError).max() ?? 0,
      thresholds.maxWeightError)
    if criteria.count > 1, beyond > 0 {
      criteria.append(
        Criterion(
          key: "weights[].state", name: "weights beyond their scheme", found: Double(beyond), demanded: 0,
          isCeiling: true))
    }
    return criteria
  }

  /// Weights that nothing holds to a bound: where something is demanded they fail the result.
  private var beyond: Int { weights.count { $0.state == .beyond } }

  /// Whether the result is what was asked for.
  package var verdict: Verdict {
    let criteria = criteria
    guard criteria.allSatisfy(\.isMet) else { return .fail }
    return criteria.count > 1 ? .pass : .notJudged
  }

  /// Why nothing is judged, and what can be said all the same.
  var reasonText: String {
    let why = notRun.map { "no forward pass was run (\($0))" } ?? "no threshold was given"
    let found =
      beyond == 0
      ? "no weight, setting or token id is wrong" : "\(grouped(beyond)) weights are beyond their scheme"
    return "\(why); \(found)"
  }

  /// The verdict beside what it rests on.
  var verdictText: String {
    guard verdict != .notJudged else {
      return "verdict: not judged: \(reasonText)"
    }
    let profile = thresholds.profile.map { " (profile \($0.rawValue))" } ?? ""
    let criteria = criteria
    return "verdict: \(verdict.text)\(profile), "
      + (criteria.dropFirst() + criteria.prefix(1)).map(\.text).joined(separator: ", ")
  }
}

extension [Report.TextFigures] {
  /// The text of the largest figure, the first of equals; one whose figure is not a number before all others.
  fileprivate func worst(by figure: (Report.TextFigures) -> Double) -> Report.TextFigures? {
    first { figure($0).isNaN }
      ?? indices.max { (figure(self[$0]), $1) < (figure(self[$1]), $0) }.map { self[$0] }
  }
}
