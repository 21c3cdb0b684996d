Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.CacheTest do
  use ExUnit.Case, async: true

  alias Emily.Artifact.{Cache, CacheError}
  alias Emily.Doctor.{Checks, Machine, Outcome}

  @moduletag :tmp_dir

  test "tells where the cache is and what room it has", %{tmp_dir: tmp} do
    well = Machine.well(tmp)
    {:ok, %{folder: folder} = cache} = well.cache
    absent = %Cache{folder: Path.join(tmp, "none"), root: Path.join(tmp, "none/v1")}

    cases = [
      {[], Outcome.ok("#{folder}, 21.0 GiB free", facts: %{cache: cache})},
      {[free_bytes: fn _cache -> :unknown end], Outcome.ok(folder, facts: %{cache: cache})},
      {[cache: {:ok, absent}],
       Outcome.ok("#{tmp}/none, not made yet, 21.0 GiB free", facts: %{cache: absent})},
      {[free_bytes: fn ^cache -> {:ok, 512 * 1024 ** 2} end],
       Outcome.warning(
         "only 0.5 GiB free, expected at least 2.0 GiB",
         "free some space, or name another folder in EMILY_CACHE",
         details: [{"path", folder}],
         facts: %{cache: cache}
       )}
    ]

    for {changes, expected} <- cases do
      assert Checks.Cache.run(struct!(well, changes), %{}) == expected
    end
  end

  test "names what interrupted installs left behind, and how to remove it", %{tmp_dir: tmp} do
    %{cache: {:ok, cache}} = well = Machine.well(tmp)
    left = Path.join(cache.root, "tmp/emily-nif-0.1.0-cpu-linux-x86_64.tar.gz.here.0a1b")
    File.mkdir_p!(Path.dirname(left))
    File.write!(left, String.duplicate("x", 2_600_000))

    assert %Outcome{status: :ok, details: details} = Checks.Cache.run(well, %{})

    assert details == [
             {"interrupted", "2.6 MB, which `mix emily.clean --leftovers` removes"}
           ]
  end

  test "refuses a cache that cannot be used", %{tmp_dir: tmp} do
    well = Machine.well(tmp)
    {:ok, %{folder: folder}} = well.cache
    mine = Cache.user_id()
    file = Path.join(tmp, "file")
    File.write!(file, "")
    below = %Cache{folder: Path.join(file, "emily"), root: Path.join(file, "emily/v1")}

    cases = [
      {[user_id: mine + 1],
       Outcome.error(
         "it belongs to user #{mine}, and this is user #{mine + 1}",
         "sudo chown -R $(id -un) #{folder}",
         details: [{"path", folder}]
       )},
      {[cache: {:error, %CacheError{action: "find the cache", reason: :no_home}}],
       Outcome.error("there is no folder for it", "name one in EMILY_CACHE",
         details: [{"reason", "neither EMILY_CACHE, XDG_CACHE_HOME nor HOME is set"}]
       )},
      {[cache: {:ok, below}],
       Outcome.error("it cannot be read", "ls -ld #{file}/emily",
         details: [{"path", "#{file}/emily"}, {"reason", "not a directory"}]
       )}
    ]

    for {changes, expected} <- cases do
      assert Checks.Cache.run(struct!(well, changes), %{}) == expected
    end
  end
end
