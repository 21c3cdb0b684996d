# Tests tagged :native call into libemily, which `cargo xtask nif` builds into priv/. Where it is
# not built they are left out, and ExUnit's last line counts them as excluded.
target = Emily.Artifact.Host.target()

native? =
  case target && Emily.Artifact.Targets.fetch(target) do
    {:ok, %{"library" => library}} ->
      File.exists?(Path.join([Mix.Project.app_path(), "priv", library]))

    _no_target ->
      false
  end

unless native? do
  IO.puts("Excluded: tests that call libemily, which is not built; run `cargo xtask nif`.")
end

# Some tests need folders that only root can make; ExUnit counts them as skipped without a reason.
if reason = Emily.Test.HostileFolder.problem() do
  IO.puts("Skipped: tests of read-only, full and foreign folders: #{reason}.")
end

if reason = Emily.Test.Xtask.problem() do
  IO.puts("Skipped: tests that hold the Rust installer against the Elixir one: #{reason}.")
end

if :soak in ExUnit.configuration()[:include] do
  IO.puts("Excluded: all but the long versions of soak tests.")
else
  IO.puts("Excluded: long versions of soak tests; run `cargo xtask test soak`.")
end

ExUnit.start(exclude: if(native?, do: [:soak, :fuzz], else: [:native, :soak, :fuzz]))

# Nx's own examples show tensors without their backend.
Application.put_env(:emily, :add_backend_on_inspect, false)
