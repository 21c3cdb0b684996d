defmodule Emily.Doctor.TextTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Check, Outcome, Report, Text}

  defp report(rows) do
    entries =
      for {title, outcome} <- rows,
          do: {%Check{id: String.to_atom(title), title: title, module: __MODULE__}, outcome}

    %Report{version: "0.8.0", entries: entries}
  end

  @mixed [
    {"Elixir", Outcome.ok("Elixir 1.18.3")},
    {"Download cache",
     Outcome.warning("only 0.5 GiB free", "free some space", details: [{"path", "/cache"}])},
    {"Files",
     Outcome.error("1 of 2 differ", "mix compile.emily --force",
       details: [{"path", "/priv"}, {"libmlx.so", "expected sha256 ab\ngot: cd"}]
     )},
    {"Library", Outcome.skipped("needs Files")}
  ]

  test "is a table with each problem's facts and next step beneath it" do
    assert Text.render(report(@mixed)) == """
           Emily 0.8.0

             ok       Elixir          Elixir 1.18.3
             warning  Download cache  only 0.5 GiB free
                                      path  /cache
                                      next  free some space
             error    Files           1 of 2 differ
                                      path       /priv
                                      libmlx.so  expected sha256 ab
                                                 got: cd
                                      next       mix compile.emily --force
             skipped  Library         needs Files

           Emily does not work here as it is: 1 ok, 1 warning, 1 error, 1 skipped
           """
  end

  test "closes with the verdict and what there is to count" do
    ok = {"Elixir", Outcome.ok("1.18.3")}
    warning = {"Cache", Outcome.warning("full", "free some space")}
    error = {"Files", Outcome.error("none", "mix compile")}

    for {rows, closing} <- [
          {[ok], "Emily is ready: 1 ok, 0 errors"},
          {[ok, warning], "Emily works, with warnings: 1 ok, 1 warning, 0 errors"},
          {[warning, warning], "Emily works, with warnings: 2 warnings, 0 errors"},
          {[ok, error, error], "Emily does not work here as it is: 1 ok, 2 errors"}
        ] do
      assert rows |> report() |> Text.render() |> String.split("\n") |> Enum.at(-2) == closing
    end
  end

  test "colours the statuses and nothing else, without moving a column" do
    coloured = @mixed |> report() |> Text.render(colour: true)

    assert coloured =~ "  \e[32mok\e[0m       Elixir"
    assert coloured =~ "  \e[33mwarning\e[0m  Download cache"
    assert coloured =~ "  \e[31merror\e[0m    Files"
    assert coloured =~ "  \e[90mskipped\e[0m  Library"
    assert coloured =~ "\n\e[31mEmily does not work here as it is\e[0m: 1 ok"
    assert String.replace(coloured, ~r/\e\[\d+m/, "") == @mixed |> report() |> Text.render()
  end
end
