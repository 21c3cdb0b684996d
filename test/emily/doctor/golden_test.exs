Code.require_file("platforms.exs", __DIR__)

defmodule Emily.Doctor.GoldenTest do
  @moduledoc """
  The doctor's words on every platform, well and in trouble, as text and as JSON.

  `RECORD=1 mix test test/emily/doctor/golden_test.exs` records them again; read the difference.
  """
  use ExUnit.Case, async: true

  alias Emily.Artifact.Targets
  alias Emily.Doctor
  alias Emily.Doctor.{Document, Machine, Platforms, Report, Text}

  @moduletag :tmp_dir
  @folder "test/golden/doctor"

  for {variant, target} = platform <- Platforms.all() do
    @platform platform
    @name "#{variant}-#{target}"

    test "#{variant} on #{target}", %{tmp_dir: tmp} do
      reports =
        for {{trouble, change}, index} <- Enum.with_index(cases(@platform)) do
          folder = Path.join(tmp, "#{index}")
          report = folder |> Platforms.well(@platform) |> change.() |> Doctor.run()
          {trouble, report, folder}
        end

      for {trouble, report, _folder} <- reports, do: assert_useful(trouble, report)
      compare("#{@name}.txt", texts(reports))
      compare("#{@name}.json", documents(reports))
    end
  end

  # All is well, each trouble is one, and each problem has a next step.
  defp assert_useful(trouble, report) do
    status = Report.status(report)
    if trouble == "all well", do: assert(status == :ok), else: refute(status == :ok, trouble)

    for {check, outcome} <- report.entries, outcome.status in [:warning, :error] do
      assert is_binary(outcome.next), "#{trouble}: #{check.title} has no next step"
      refute outcome.message =~ "the check itself failed", "#{trouble}: #{check.title}"
    end
  end

  defp cases(platform), do: [{"all well", & &1} | Platforms.troubles(platform)]

  defp texts(reports) do
    Enum.map_join(reports, "\n", fn {trouble, report, folder} ->
      "# #{trouble}\n\n" <> (report |> Text.render() |> plain(folder))
    end)
  end

  # A line for each report, which a diff shows as one.
  defp documents(reports) do
    lines =
      for {trouble, report, folder} <- reports do
        "  #{JSON.encode!(trouble)}: #{report |> Document.render() |> plain(folder) |> JSON.decode!() |> JSON.encode!()}"
      end

    "{\n" <> Enum.join(lines, ",\n") <> "\n}\n"
  end

  # What differs between machines, days and versions stays out.
  defp plain(text, folder) do
    text
    |> String.replace(folder, "/machine")
    |> String.replace(Targets.version(), "VERSION")
    |> String.replace(~r/user \d+/, fn "user " <> id ->
      "user #{String.to_integer(id) - Machine.user_id() + 1000}"
    end)
  end

  defp compare(name, text) do
    path = Path.join(@folder, name)

    if System.get_env("RECORD") do
      File.mkdir_p!(@folder)
      File.write!(path, text)
    end

    assert text == File.read!(path)
  end
end
