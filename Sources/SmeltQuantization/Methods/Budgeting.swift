// Choosing schemes on the convex hull of error over bytes. Formats/methods.md, section 5.

/// Weights that get one scheme together, and what each scheme would cost.
package struct BudgetGroup: Sendable {
  /// One way to store the group.
  package struct Choice: Sendable {
    /// The scheme's name.
    package var scheme: String
    /// Bytes of the result.
    package var bytes: Int
    /// What rounding costs: the relative square error of the layer's output.
    package var error: Double

    /// A choice of known costs.
    package init(scheme: String, bytes: Int, error: Double) {
      self.scheme = scheme
      self.bytes = bytes
      self.error = error
    }
  }

  /// What the group is called.
  package var name: String
  /// At least one choice.
  package var choices: [Choice]

  /// A group.
  package init(name: String, choices: [Choice]) {
    self.name = name
    self.choices = choices
  }

  /// The places of the choices on the lower convex hull of error over bytes, smallest first.
  var hull: [Int] {
    let order = choices.indices.sorted {
      (choices[$0].bytes, choices[$0].error, $0) < (choices[$1].bytes, choices[$1].error, $1)
    }
    var hull: [Int] = []
    for place in order {
      if let last = hull.last, choices[place].error >= choices[last].error { continue }
      while hull.count >= 2,
        gain(hull[hull.count - 2], hull[hull.count - 1]) <= gain(hull[hull.count - 1], place)
      {
        hull.removeLast()
      }
      hull.append(place)
    }
    return hull
  }

  /// The error that a byte more takes away on the way from one choice to a larger one.
  func gain(_ from: Int, _ to: Int) -> Double {
    (choices[from].error - choices[to].error) / Double(max(1, choices[to].bytes - choices[from].bytes))
  }
}

/// The choice of schemes within a budget.
package enum Budgeting {
  /// One choice for each group so that their bytes are at most `bytes` and the sum of errors is small: every group starts
  /// with its smallest choice, then the step along a hull that takes away most error a byte is taken, as long as one
  /// fits; what is left over goes to any better choices that fit. Where one choice for all groups, and what is left over
  /// given away, is better, that is taken.
  /// - Returns: the place of the choice in each group; nil when the smallest choices are too large together.
  package static func choose(_ groups: [BudgetGroup], bytes: Int) -> [Int]? {
    func cost(_ chosen: [Int]) -> (bytes: Int, error: Double) {
      zip(groups, chosen).reduce((0, 0)) {
        ($0.0 + $1.0.choices[$1.1].bytes, $0.1 + $1.0.choices[$1.1].error)
      }
    }
    let smallest = groups.map { $0.hull[0] }
    guard cost(smallest).bytes <= bytes else { return nil }
    var best = filled(climbed(groups, from: smallest, bytes: bytes - cost(smallest).bytes), groups, bytes)
    for place in 0..<(groups.map(\.choices.count).min() ?? 0) {
      let uniform = groups.map { _ in place }
      guard cost(uniform).bytes <= bytes else { continue }
      let other = filled(uniform, groups, bytes)
      if cost(other).error < cost(best).error { best = other }
    }
    return best
  }

  /// Steps along the hulls, the best first.
  private static func climbed(_ groups: [BudgetGroup], from smallest: [Int], bytes: Int) -> [Int] {
    let hulls = groups.map(\.hull)
    var (chosen, left) = (smallest, bytes)
    var steps: [(group: Int, step: Int, gain: Double)] = []
    for (group, hull) in hulls.enumerated() {
      for step in 1..<max(1, hull.count) {
        steps.append((group, step, groups[group].gain(hull[step - 1], hull[step])))
      }
    }
    steps.sort { ($0.gain, $1.group, $1.step) > ($1.gain, $0.group, $0.step) }
    var stopped: Set<Int> = []
    for (group, step, _) in steps where !stopped.contains(group) {
      let choices = groups[group].choices
      let more = choices[hulls[group][step]].bytes - choices[hulls[group][step - 1]].bytes
      guard more <= left else {
        stopped.insert(group)
        continue
      }
      left -= more
      chosen[group] = hulls[group][step]
    }
    return chosen
  }

  /// What is left over goes to the choices that gain most and fit.
  private static func filled(_ chosen: [Int], _ groups: [BudgetGroup], _ bytes: Int) -> [Int] {
    var chosen = chosen
    var left = bytes - zip(groups, chosen).reduce(0) { $0 + $1.0.choices[$1.1].bytes }
    while true {
      var best: (group: Int, choice: Int, gain: Double)?
      for (group, candidates) in groups.enumerated() {
        let now = candidates.choices[chosen[group]]
        for (place, choice) in candidates.choices.enumerated()
        where choice.error < now.error && choice.bytes - now.bytes <= left {
          let gain = now.error - choice.error
          if best == nil || gain > best!.gain { best = (group, place, gain) }
        }
      }
      guard let best else { return chosen }
      let choices = groups[best.group].choices
      left -= choices[best.choice].bytes - choices[chosen[best.group]].bytes
      chosen[best.group] = best.choice
    }
  }
}
