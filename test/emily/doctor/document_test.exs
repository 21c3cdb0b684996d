defmodule Emily.Doctor.DocumentTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Check, Document, Outcome, Report}

  defp render(entries), do: Document.render(%Report{version: "0.8.0", entries: entries})

  test "is the documented object, its keys in the documented order" do
    files = %Check{id: :files, title: "Installed files", module: __MODULE__}
    load = %Check{id: :load, title: "Native library", module: __MODULE__, needs: [:files]}

    text =
      render([
        {files,
         Outcome.error("1 of 2 “differ”", "mix compile.emily --force",
           details: [{"path", "/priv"}]
         )},
        {load, Outcome.skipped("needs Installed files")}
      ])

    assert text ==
             ~S({"schema":1,"emily":"0.8.0","status":"error",) <>
               ~S("counts":{"ok":0,"warning":0,"error":1,"skipped":1},"checks":[) <>
               ~S({"id":"files","title":"Installed files","status":"error",) <>
               ~S("message":"1 of 2 “differ”","details":[{"label":"path","value":"/priv"}],) <>
               ~S("next":"mix compile.emily --force","needs":[]},) <>
               ~S({"id":"load","title":"Native library","status":"skipped",) <>
               ~S("message":"needs Installed files","details":[],"next":null,"needs":["files"]}]})
  end

  test "keeps facts that only other checks read out of it" do
    check = %Check{id: :files, title: "Installed files", module: __MODULE__}
    document = JSON.decode!(render([{check, Outcome.ok("2 files", facts: %{origin: :source})}]))

    assert document["status"] == "ok"
    assert [%{"status" => "ok"} = shown] = document["checks"]

    assert shown |> Map.keys() |> Enum.sort() ==
             ~w(details id message needs next status title)
  end
end
