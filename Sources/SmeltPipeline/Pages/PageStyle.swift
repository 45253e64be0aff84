// The style sheet of every page. Colours are variables, so that light and dark differ in one place; blue and orange stay
// apart for the colour-blind, and no meaning rests on colour alone.

/// The style sheet in its parts.
enum PageStyle {
  /// Colours of both schemes. Print is light whatever the screen shows.
  static let colours = """
    :root { color-scheme: light dark;
      --paper: #fff; --panel: #f5f7f9; --ink: #1b2430; --soft: #55606c; --line: #d5dbe1; --accent: #0b5fa5; --second: #b8500a;
      --good: #0b6b38; --bad: #b3201a; --hole: #d98200; --shade: rgb(20 30 45 / .28);
      --s0: #e8f0f8; --s1: #cbdff0; --s2: #a3c8e4; --s3: #72abd3; --s4: #468bbf; --s5: #246aa6; --s6: #124a82; --s7: #082a54 }
    @media screen and (prefers-color-scheme: dark) { :root {
      --paper: #11151a; --panel: #191f26; --ink: #e5e9ee; --soft: #9da8b4; --line: #303943; --accent: #66b3f0; --second: #f2a65a;
      --good: #5fce92; --bad: #ff8b80; --hole: #ffb23e; --shade: rgb(190 210 235 / .3);
      --s0: #1c2733; --s1: #1d3a55; --s2: #205078; --s3: #2b6b9e; --s4: #458abf; --s5: #6eaadb; --s6: #a2cbee; --s7: #e0f0ff } }

    """

  /// Text, tables and cards.
  static let layout = """
    * { box-sizing: border-box }
    body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }
    main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
    h1, h2, h3 { line-height: 1.25; margin: 0 0 .6rem; overflow-wrap: anywhere }
    h1 { font-size: 1.3rem; font-weight: 600 } h2 { font-size: 1.25rem; margin-top: 2.75rem } h3 { font-size: 1rem; margin-top: 1.75rem }
    p { margin: 0 0 .8rem; max-width: 46rem; overflow-wrap: anywhere } .soft, figcaption { color: var(--soft) }
    .card .scroll table { margin-bottom: 0 }
    .card { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 1.25rem 1.5rem; margin: 0 0 1.5rem }
    .verdict { font-size: 3rem; font-weight: 700; line-height: 1.1; margin: 0 0 .75rem }
    .pass { color: var(--good) } .fail { color: var(--bad) } .open { color: var(--soft) }
    .keys { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin: 1.25rem 0 }
    .key b { display: block; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums } .key span { color: var(--soft); font-size: .875rem; display: block }
    dl { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: .25rem 1rem; margin: 1rem 0; font-size: .9375rem }
    dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums }
    .scroll { overflow-x: auto; max-width: 100%; --under: var(--paper); background-color: var(--under); background-repeat: no-repeat;
      background-image: linear-gradient(to right, var(--under), var(--under)), linear-gradient(to left, var(--under), var(--under)), linear-gradient(to right, var(--shade), transparent), linear-gradient(to left, var(--shade), transparent);
      background-position: left, right, left, right; background-size: 14px 100%; background-attachment: local, local, scroll, scroll }
    .card .scroll { --under: var(--panel) }
    table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; min-width: 50% }
    th, td { padding: .3rem .9rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top } th { color: var(--soft); font-weight: 600 }
    th.n, td.n { text-align: right; white-space: nowrap }
    details { margin: .75rem 0 } summary { cursor: pointer; color: var(--accent) }
    code { font: .875em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere }
    .token { border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1.1rem; margin: 0 0 1rem }
    .token .text { white-space: pre-wrap; overflow-wrap: anywhere; max-width: none; margin: 0 0 .6rem } .token .next { border-bottom: 3px solid var(--second); font-weight: 600 }
    .guesses { display: grid; grid-template-columns: 1fr 1fr; gap: .25rem 1.5rem; font-size: .9375rem } .guesses p { margin: 0 }
    .guesses code { background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: 0 .3em; white-space: pre-wrap }
    @media (max-width: 960px) { table { font-size: .875rem } th, td { padding-right: .7rem } }
    @media (max-width: 600px) {
      main { padding: 1.25rem 1rem 3rem } .card { padding: 1rem } .verdict { font-size: 2.5rem }
      th, td { padding-right: .55rem } .card table { font-size: .8125rem }
      dl { grid-template-columns: minmax(0, 1fr); gap: 0 } dd { margin-bottom: .5rem } .guesses { grid-template-columns: minmax(0, 1fr) } .guesses p { margin: 0 0 .4rem }
    }
    @media print {
      main { max-width: none; padding: 0 } body { font-size: 10.5pt } .scroll { overflow: visible; background: none } details.long { display: none } figure, .card, .token, tr { break-inside: avoid }
      h2 { break-after: avoid } details::details-content { content-visibility: visible; height: auto }
    }

    """

  /// Pictures: 13 units of type in a picture of 720, which is never shown narrower than 640 px, are at least 11 px.
  static let pictures = """
    figure { margin: 1rem 0 1.75rem } figcaption { font-size: .9375rem; margin-top: .4rem; max-width: 46rem }
    svg { display: block; width: 100%; min-width: 640px; height: auto; font: 13px system-ui, sans-serif; fill: var(--ink) }
    svg text { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round } svg.heat text { stroke: none }
    svg.heat { font-size: 11px } svg.heat rect[width="100%"] { fill: none } svg.heat text { fill: var(--ink) }
    svg .soft { fill: var(--soft) } svg .strong { font-weight: 600 } svg .middle { text-anchor: middle } svg .end { text-anchor: end }
    .grid { stroke: var(--line); stroke-width: 1; fill: none } .axis { stroke: var(--soft); stroke-width: 1; fill: none }
    .l0, .l1, .l2 { fill: none; stroke-width: 2; stroke-linejoin: round } .l0 { stroke: var(--accent) } .l1 { stroke: var(--second); stroke-dasharray: 6 3 } .l2 { stroke: var(--soft); stroke-dasharray: 2 3 }
    .f0 { fill: var(--accent) } .f1 { fill: var(--second) } .f2 { fill: var(--soft) } .band { fill: var(--accent); opacity: .2 }
    .cells { fill: none; stroke-width: 1; shape-rendering: crispEdges } .hole { stroke: var(--hole) } .fh { fill: var(--hole) }
    .s0 { stroke: var(--s0) } .s1 { stroke: var(--s1) } .s2 { stroke: var(--s2) } .s3 { stroke: var(--s3) } .s4 { stroke: var(--s4) } .s5 { stroke: var(--s5) } .s6 { stroke: var(--s6) } .s7 { stroke: var(--s7) }
    .c0 { fill: var(--s0) } .c1 { fill: var(--s1) } .c2 { fill: var(--s2) } .c3 { fill: var(--s3) } .c4 { fill: var(--s4) } .c5 { fill: var(--s5) } .c6 { fill: var(--s6) } .c7 { fill: var(--s7) }

    """
}
