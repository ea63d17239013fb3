// The player decides which of the steps are shown: as they come, or later, and
// slower.

const keptSteps = 5000;

export class Player {
  constructor() {
    this.all = []; // steps as they came
    this.view = []; // those that pass the filter
    this.shown = 0; // of view
    this.playing = true;
    this.pace = 350; // ms between steps
    this.filter = () => true;
    this.since = 0; // Seq before the run's first step
    this.onstep = () => {}; // one more step is shown
    this.onseek = () => {}; // the shown steps are others
    this.onstate = () => {};
    this.timer = 0;
  }

  add(step) {
    this.all.push(step);
    if (this.all.length > keptSteps) this.all.splice(0, keptSteps / 10);
    if (step.seq > this.since && this.filter(step)) this.view.push(step);
    this.run();
  }

  run() {
    this.onstate();
    if (!this.playing || this.timer || this.shown >= this.view.length) return;
    this.timer = setTimeout(() => {
      this.timer = 0;
      if (!this.playing) return;
      this.forward();
      this.run();
    }, this.pace);
  }

  forward() {
    if (this.shown >= this.view.length) return false;
    this.shown++;
    this.onstep(this.view[this.shown - 1], this.shown);
    this.onstate();
    return true;
  }

  play(on) {
    this.playing = on;
    clearTimeout(this.timer);
    this.timer = 0;
    this.run();
  }

  step() {
    this.play(false);
    return this.forward();
  }

  seek(n) {
    this.shown = Math.max(0, Math.min(n, this.view.length));
    this.onseek(this.view.slice(0, this.shown));
    this.onstate();
    this.run();
  }

  refilter(filter) {
    const end = this.shown === this.view.length;
    const last = this.shown ? this.view[this.shown - 1].seq : 0;
    this.filter = filter;
    this.view = this.all.filter((s) => s.seq > this.since && filter(s));
    const n = this.view.findIndex((s) => s.seq > last);
    this.seek(end || n < 0 ? this.view.length : n);
  }

  fresh() {
    this.since = this.all.length ? this.all[this.all.length - 1].seq : 0;
    this.view = [];
    this.seek(0);
    this.play(true);
  }

  clear() {
    this.all = [];
    this.since = 0;
    this.view = [];
    this.seek(0);
  }
}
