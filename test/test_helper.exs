# Tests tagged :native call into libemily, which `cargo xtask nif` builds into priv/. Where it is
# not built they are left out, and the summary line of ExUnit counts them as excluded.
target = Emily.Artifact.Host.target()

native? =
  case target && Emily.Artifact.Targets.fetch(target) do
    {:ok, %{"library" => library}} ->
      File.exists?(Path.join([Mix.Project.app_path(), "priv", library]))

    _no_target ->
      false
  end

unless native? do
  IO.puts("The tests tagged :native are left out: `cargo xtask nif` builds the library they call.")
end

ExUnit.start(exclude: if(native?, do: [], else: [:native]))
