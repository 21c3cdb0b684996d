defmodule Emily.PackageTest do
  @moduledoc """
  What `mix hex.build` ships: these files, and of `lib/` what git tracks or would track.
  """
  use ExUnit.Case, async: true

  # One more or less is a decision.
  @beside_lib ~w(.formatter.exs ARCHITECTURE.md CHANGELOG.md LICENSE README.md mix.exs priv/.gitkeep
                 release/keys.json release/targets.json)

  defp expected do
    {listed, 0} =
      System.cmd("git", ~w(ls-files -z --cached --others --exclude-standard lib))

    # What was deleted and not yet committed is still listed.
    files = listed |> String.split(<<0>>, trim: true) |> Enum.filter(&File.regular?/1)
    Enum.sort(@beside_lib ++ files)
  end

  # As Hex expands its list: folders with all below them, wildcards, and no file twice.
  defp shipped do
    for(
      pattern <- Mix.Project.config()[:package][:files],
      match <- Path.wildcard(pattern, match_dot: true),
      path <- below(match),
      File.regular?(path),
      uniq: true,
      do: path
    )
    |> Enum.sort()
  end

  defp below(path) do
    if File.dir?(path), do: Path.wildcard(Path.join(path, "**"), match_dot: true), else: [path]
  end

  test "the package ships what is expected" do
    assert shipped() == expected()
  end

  test "of lib/ it ships Elixir and nothing else" do
    for "lib/" <> _rest = path <- shipped(), do: assert(Path.extname(path) == ".ex", path)
  end

  if Code.ensure_loaded?(Hex) do
    test "Hex itself agrees" do
      folder = Path.join(System.tmp_dir!(), "emily-hex-#{System.unique_integer([:positive])}")
      on_exit(fn -> File.rm_rf!(folder) end)

      {output, status} =
        System.cmd("mix", ["hex.build", "--unpack", "--output", folder],
          # The dependencies as Hex knows them, and not from a folder.
          env: [{"EMILY_DEPS_PATH", nil}, {"EMILY_BARE", nil}],
          stderr_to_stdout: true
        )

      assert status == 0, output

      built =
        for path <- Path.wildcard(Path.join(folder, "**"), match_dot: true),
            File.regular?(path),
            do: Path.relative_to(path, folder)

      assert Enum.sort(built -- ["hex_metadata.config"]) == expected()
    end
  end
end
