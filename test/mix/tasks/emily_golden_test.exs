# Without Nx there is no recorder to test.
if Code.ensure_loaded?(Nx) do
  defmodule Mix.Tasks.Emily.GoldenTest do
    use ExUnit.Case, async: true

    import ExUnit.CaptureIO
    import Emily.Test.InstallCase, only: [temporary_folder: 0]

    alias Mix.Tasks.Emily.Golden

    @moduletag :nx
    @moduletag timeout: :infinity

    # zlibs compress differently, so what counts is what the files hold.
    defp operations(folder) do
      for path <- Path.wildcard(Path.join(folder, "*.jsonl.gz")), into: %{} do
        {Path.basename(path, ".jsonl.gz"), path |> File.read!() |> :zlib.gunzip()}
      end
    end

    defp programs(folder) do
      for path <- Path.wildcard(Path.join(folder, "programs/*/*")),
          into: %{},
          do: {Path.relative_to(path, folder), File.read!(path)}
    end

    defp recorded(folder), do: Map.merge(operations(folder), programs(folder))

    test "the committed table of types is what Nx says" do
      committed = File.read!("test/golden/types.json")
      assert IO.iodata_to_binary(Emily.Golden.Types.table()) == committed
    end

    # Models are recorded where their libraries are; elsewhere they are said to stay as they are.
    test "the committed cases are what the recorder records" do
      folder = temporary_folder()
      said = capture_io(fn -> Golden.run(["--into", folder]) end)

      {_models, missing} = Emily.Golden.Models.programs()
      missing? = fn {path, _bytes} -> Enum.any?(missing, &String.contains?(path, "/#{&1}/")) end
      committed = "test/golden" |> recorded() |> Map.reject(missing?)
      anew = recorded(folder)
      names = Enum.uniq(Map.keys(committed) ++ Map.keys(anew))
      different = for name <- names, committed[name] != anew[name], do: name

      assert different == [],
             "expected the recorder to record test/golden, got other cases of " <>
               "#{Enum.join(different, ", ")}; run `mix emily.golden` and look at the difference"

      count = map_size(operations("test/golden"))
      assert said =~ ~r/\A\d+ cases of #{count} operations, \d+ bytes; programs, \d+ bytes/
      for name <- missing, do: assert(said =~ name)
    end

    test "what is no option is refused" do
      message = ~s(expected no arguments but --into DIR and --models DIR, got: ["here"])
      assert_raise Mix.Error, message, fn -> Golden.run(["here"]) end
    end
  end
end
